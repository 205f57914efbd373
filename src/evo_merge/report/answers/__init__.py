"""The answer sheet: which model solves which problem, for any models and candidates of a run."""
