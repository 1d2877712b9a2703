"""xaisim: what it costs to explain a network on a given accelerator, in cycles, joules and lost fidelity."""
__version__ = "0.1.0"
