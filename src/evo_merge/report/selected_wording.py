"""A sentence on what the best of many would probably score elsewhere."""

from evo_merge.report.results import RunResults
from evo_merge.report.wording import ScoreFormat, counted


def selected_told(results: RunResults, written: ScoreFormat) -> str:
    """The score that the choice was made by, as observed and as corrected; empty where no correction was made."""
    found = results.selected
    if found is None:
        return ""
    score = found.score
    problems = counted(score.n_problems, f"{found.split} problem")
    observed = written.score(score.observed)
    among = f"It was chosen as the best of {score.n_candidates:,} by its score on {problems}, {observed}"
    if written.score(score.corrected) == observed or score.corrected > score.observed:
        return f"{among}; nothing there speaks of luck in that choice."
    return f"{among}; without the luck in that choice it would probably be {written.score(score.corrected)}."
