"""Which of several searches are worth going on with, after a trial."""

import logging
import math
from collections.abc import Sequence

from evo_merge.search import Search
from evo_merge.trackers.base import Candidate

log = logging.getLogger(__name__)
_CLEAR = 2.0  # standard errors by which a pair is behind when it is dropped


def hopeful(searches: Sequence[Search]) -> list[Search]:
    """Those whose best is not clearly below the best of all, in one objective at least.

    Where a pair has found what keeps to the constraints, those are dropped that have not.
    """
    # Not the study's candidates: of a resumed run that has what came after the trial too.
    fronts = {search.stage.name: search.front.members for search in searches}
    kept = {name for name, members in fronts.items() if members and members[0].evaluation.violation == 0}
    fronts = {name: members for name, members in fronts.items() if name in kept or not kept}
    objectives = next((members[0].evaluation.n_objectives for members in fronts.values() if members), 1)
    found: set[str] = set()
    for objective in range(objectives):
        scores = {name: _best_score(members, objective) for name, members in fronts.items()}
        best, best_error = max(scores.values())
        found |= {name for name, (score, error) in scores.items() if score + _CLEAR * math.hypot(error, best_error) >= best}
    for search in searches:
        if search.stage.name not in found:
            log.info("pair %s is dropped: it is clearly behind the leading pair", search.stage.name)
    return [search for search in searches if search.stage.name in found]


def _best_score(members: Sequence[Candidate], objective: int) -> tuple[float, float]:
    """Greatest mean of an objective, and its standard error."""
    found = [(-math.inf, 0.0)]
    for member in members:
        column = member.evaluation.column(member.evaluation.metrics[objective])
        error = float(column.std(ddof=1) / math.sqrt(len(column))) if len(column) > 1 else 0.0
        found.append((float(column.mean()), error))
    return max(found)
