"""Those who want to see each generation."""
