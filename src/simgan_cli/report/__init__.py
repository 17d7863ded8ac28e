"""Pictures of what happened: pure functions of arrays."""
