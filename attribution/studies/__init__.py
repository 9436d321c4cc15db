"""Studies of how well attribution works: they take generator files and return frozen tables."""
