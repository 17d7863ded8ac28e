"""The simulated eyes."""
