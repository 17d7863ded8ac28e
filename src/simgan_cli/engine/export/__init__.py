"""A trained network as a folder."""
