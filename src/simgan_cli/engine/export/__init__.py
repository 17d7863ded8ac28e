"""A trained network as a folder, as one file, and on the Hub."""
