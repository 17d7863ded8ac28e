"""The method (networks, losses, history, Algorithm 1), its runs and its models. Knows nothing of the command line."""
