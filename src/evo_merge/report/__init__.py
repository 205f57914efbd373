"""What a run found, for a person: statistics, figures, the HTML report, the model card."""
