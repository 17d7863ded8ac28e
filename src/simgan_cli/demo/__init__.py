"""Simulated eyes for demonstrations."""
