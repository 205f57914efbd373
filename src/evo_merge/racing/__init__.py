"""Racing: candidates that are out of the best of their generation are asked no further."""
