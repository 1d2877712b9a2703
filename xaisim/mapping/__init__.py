"""From a fixed-point graph to a static schedule: stages, their tilings, tiles with addresses in program order."""
