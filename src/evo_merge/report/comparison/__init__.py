"""Runs compared with each other: read, grouped, ranked, and written to a page and a table."""
