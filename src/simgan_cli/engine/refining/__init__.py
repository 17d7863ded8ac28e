"""Refining: plan, read, refine and write files."""
