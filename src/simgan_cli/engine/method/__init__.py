"""The paper: networks, losses, history, Algorithm 1."""
