"""Models on disk and in memory: references, lazy weights, compatibility, assembling a recipe, writing a checkpoint."""
