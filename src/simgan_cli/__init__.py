"""simgan: train a refiner that makes rendered images look real while their labels stay true."""

__version__ = "0.1.0"
