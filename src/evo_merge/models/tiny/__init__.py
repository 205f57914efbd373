"""The embedded tiny family: a base model and three specialists that ship with the package."""
