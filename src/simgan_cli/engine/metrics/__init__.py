"""How good a refiner is."""
