"""Gaze: labels, directions and errors."""
