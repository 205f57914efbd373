"""The report's figures, one a file: each takes a run and a width and gives a drawing, or nothing of nothing."""
