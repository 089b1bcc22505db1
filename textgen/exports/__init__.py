"""Models written for other programs: one module per format, and the command ``textgen export``."""
