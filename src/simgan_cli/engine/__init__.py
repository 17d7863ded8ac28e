"""The method: networks, losses, history, Algorithm 1, and what makes it survive. Knows nothing of the command line."""
