"""Fixed point: formats and their calibration, the quantiser, and the devices that run kernels."""
