"""Merge methods: pure arithmetic on one tensor and its task vectors, one method a file."""
