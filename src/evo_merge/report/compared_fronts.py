"""Runs that kept several objectives apart, told as one number each: the hypervolume of all that they found."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evo_merge.pareto import Front, hypervolume
from evo_merge.report.compared_runs import ComparedRun

Row = tuple[float, ...]  # fitness of a candidate, higher is better


def as_hypervolumes(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """The runs with hypervolumes in the place of scores, all of them from the same reference point of each split.

    The best so far becomes the volume of all candidates until then, the test score that of the members of the front that were
    asked the test split. A reference point is 0 where every run's values of an objective are fractions, else the worst of them.
    Intervals and the scores of single models have no such number and are left out.
    """
    search = reference_point(row for run in runs for _, row in run.search_rows)
    test = reference_point(row for run in runs for row in run.test_rows)
    return [
        replace(
            run,
            best_so_far=_volumes(run, search),
            chosen_after=None,
            test=hypervolume(run.test_rows, test) if run.test_rows else None,
            test_interval=None,
            best_source=None,
            unoptimised=None,
        )
        for run in runs
    ]


def reference_point(rows: Iterable[Row]) -> Row:
    """``(n_objectives,)``; empty without rows."""
    values = np.asarray(list(rows))  # (n, n_objectives)
    if not len(values):
        return ()
    is_fraction = ((values >= 0) & (values <= 1)).all(axis=0)
    return tuple(np.where(is_fraction, 0.0, values.min(axis=0)).tolist())


def _volumes(run: ComparedRun, reference: Row) -> NDArray[np.float64]:
    """``(evaluations,)``, after each evaluation; 0 before the first candidate that counts."""
    volumes = np.zeros(run.evaluations)
    front: Front[Row] = Front()
    for count, row in run.search_rows:
        if front.add(row, np.asarray(row)):
            # What was known before the first evaluation is there when it ends.
            volumes[max(count, 1) - 1 :] = hypervolume(front.members, reference)
    return volumes
