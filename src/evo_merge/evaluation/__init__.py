"""From a model and a task to scores: the Lightning side, generation, language identification."""
