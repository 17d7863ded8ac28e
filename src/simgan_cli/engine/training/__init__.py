"""Training: build, loop, save, resume."""
