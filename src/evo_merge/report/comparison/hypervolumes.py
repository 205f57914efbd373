"""Runs that kept several objectives apart, told as one number each: the hypervolume of all that they found."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evo_merge.pareto import Front, hypervolume
from evo_merge.report.comparison.run import ComparedRun
from evo_merge.report.hypervolumes import Row, reference_point


@dataclass(frozen=True, slots=True)
class ReferencePoints:
    """Where the hypervolumes of a comparison begin, ``(n_objectives,)`` of each split; empty where nothing was scored."""

    search: Row
    test: Row


def reference_points(runs: Sequence[ComparedRun]) -> ReferencePoints:
    """One point for all of these runs, by the rule that the report of one run has too."""
    return ReferencePoints(
        search=reference_point(row for run in runs for _, row in run.search_rows),
        test=reference_point(row for run in runs for row in run.test_rows),
    )


def as_hypervolumes(run: ComparedRun, above: ReferencePoints) -> ComparedRun:
    """The run with hypervolumes in the place of scores.

    The best so far becomes the volume of all candidates until then, the test score that of the members of the front that were
    asked the test split. Intervals and the scores of single models have no such number and are left out.
    """
    return replace(
        run,
        best_so_far=_volumes(run, above.search),
        chosen_after=None,
        test=hypervolume(run.test_rows, above.test) if run.test_rows and above.test else None,
        test_interval=None,
        best_source=None,
        unoptimised=None,
    )


def _volumes(run: ComparedRun, reference: Row) -> NDArray[np.float64]:
    """``(evaluations,)``, after each evaluation; 0 before the first candidate that counts."""
    volumes = np.zeros(run.evaluations)
    if not reference:
        return volumes
    front: Front[Row] = Front()
    for count, row in run.search_rows:
        if front.add(row, np.asarray(row)):
            # What was known before the first evaluation is there when it ends.
            volumes[max(count, 1) - 1 :] = hypervolume(front.members, reference)
    return volumes
