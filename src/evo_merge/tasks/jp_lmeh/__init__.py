"""The nine Japanese tasks of the jp-stable harness (Stability-AI/lm-evaluation-harness); ``benchmarks`` is their table."""
