"""Tasks: their examples, prompts and scoring, one task a file."""
