"""Merge spaces: boxes whose points are recipes."""
