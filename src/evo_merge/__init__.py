"""Turns open models into better ones, without training, by evolving how they are merged."""

from importlib.metadata import version

__version__ = version("evo-merge")
