"""Run a schedule: the compiled clock and its readable reference, idle accounting, energy and whole programs."""
