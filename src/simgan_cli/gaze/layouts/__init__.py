"""Layouts of labels on disk, one module for each."""
