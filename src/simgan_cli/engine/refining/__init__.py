"""Refining files."""
