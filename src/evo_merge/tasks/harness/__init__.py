"""EleutherAI's lm-evaluation-harness (PyPI: ``lm_eval``, MIT) behind ``task=lm_eval``."""
