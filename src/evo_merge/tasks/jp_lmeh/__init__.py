"""The nine Japanese tasks of the jp-stable harness (Stability-AI/lm-evaluation-harness), one table of them in ``benchmarks``."""
