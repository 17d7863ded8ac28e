"""The folder of a run: its files, checkpoints, health and report."""
