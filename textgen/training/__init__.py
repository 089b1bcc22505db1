"""Training: the loop, its schedule, validation, and the folder of a run."""
