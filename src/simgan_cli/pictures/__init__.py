"""Arrays in, PNG or SVG out."""
