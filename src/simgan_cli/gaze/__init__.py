"""Does refining help: labelled eyes, estimators, and what they err on real ones."""
