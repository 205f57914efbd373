"""Statistics of models that some merge methods ask for: gathered on texts, kept in files, read while merging."""
