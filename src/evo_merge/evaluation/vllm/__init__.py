"""Answers by vLLM, from an engine in a process of its own."""
