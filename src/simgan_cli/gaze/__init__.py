"""Does refining help? Labelled images, estimators, and their errors on real images."""
