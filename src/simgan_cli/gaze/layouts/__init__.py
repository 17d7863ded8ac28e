"""Layouts of labels on disk: each module reads one, or two that hold the same arrays."""
