"""Compares runs: which group each belongs to, how the groups did and whether that is more than chance."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from evo_merge.report.comparison.alike import refuse_unlike
from evo_merge.report.comparison.grouping import grouped
from evo_merge.report.comparison.hypervolumes import ReferencePoints, as_hypervolumes, reference_points
from evo_merge.report.comparison.run import ComparedRun
from evo_merge.report.comparison.values import Contrast, FairComparison, Group, Standing, are_fractions
from evo_merge.statistics.correction import holm
from evo_merge.statistics.intervals import mean_interval
from evo_merge.statistics.ranks import FEWEST_BLOCKS, FEWEST_GROUPS, friedman, signed_rank

_SLACK = 1e-12  # between scores that are the same number


def compare(runs: Sequence[ComparedRun], target: float | None = None) -> FairComparison:
    """Compare runs.

    Args:
        runs: At least one.
        target: A search score to be reached; ``None`` takes the median final one of the reference group: random search
            where it is there, else the group with the lowest.

    Raises:
        ConfigError: The runs are not about the same task.
    """
    refuse_unlike(runs)
    groups, left_out = grouped(runs)
    above = None
    if runs[0].is_of_several:
        above = reference_points([run for group in groups for run in group.runs])
        runs, groups = _by_volume(runs, groups, above)
    compared = [run for group in groups for run in group.runs]
    evaluations = min(run.evaluations for run in compared)
    seeds = tuple(seed for seed in groups[0].seeds if all(seed in group.seeds for group in groups))
    is_tested = all(run.is_finished for run in compared)
    ranked = None
    if is_tested and len(groups) >= FEWEST_GROUPS and len(seeds) >= FEWEST_BLOCKS:
        ranked = friedman(np.stack([group.of_seeds(seeds) for group in groups], axis=1))
    has_curves = evaluations > 0 and not any(run.has_batches for run in compared)
    finals = [_median(group.curves(evaluations)[:, -1]) if has_curves else None for group in groups]
    aim = _target(groups, finals, target) if has_curves else None
    bounds = (0.0, 1.0) if are_fractions(runs) else (-math.inf, math.inf)
    standings = [
        Standing(
            group=group,
            mean_rank=None if ranked is None else ranked.mean_ranks[i],
            mean=float(group.tests.mean()) if is_tested else None,
            shared_mean=float(group.of_seeds(seeds).mean()) if is_tested and seeds else None,
            interval=mean_interval(group.tests, bounds) if is_tested else None,
            search=finals[i],
            to_target=() if aim is None else _to_target(group.curves(evaluations), aim[0]),
        )
        for i, group in enumerate(groups)
    ]
    standings.sort(key=_order)
    plain = _random(groups)
    reference = plain or standings[0].group
    ordered = [standing.group for standing in standings]
    contrasts, n_tests = _contrasts(ordered, reference, is_given=plain is not None) if is_tested else ((), 0)
    return FairComparison(
        runs=tuple(runs),
        left_out=tuple(left_out),
        standings=tuple(standings),
        evaluations=evaluations,
        seeds=seeds,
        friedman=ranked,
        missing=_missing(ordered),
        reference=reference,
        is_reference_random=plain is not None,
        contrasts=contrasts,
        n_tests=n_tests,
        target=aim,
        above=above,
    )


def _by_volume(
    runs: Sequence[ComparedRun], groups: Sequence[Group], above: ReferencePoints
) -> tuple[list[ComparedRun], list[Group]]:
    told = {run: as_hypervolumes(run, above) for run in runs}
    return list(told.values()), [replace(group, runs=tuple(told[run] for run in group.runs)) for group in groups]


def _random(groups: Sequence[Group]) -> Group | None:
    """Random search, where just one group is that: what any optimizer has to beat."""
    found = [group for group in groups if group.optimizer == "random"]
    return found[0] if len(found) == 1 else None


def _missing(groups: Sequence[Group]) -> tuple[tuple[Group, tuple[int | None, ...]], ...]:
    every = sorted({seed for group in groups for seed in group.seeds}, key=lambda seed: -1 if seed is None else seed)
    lacking = [(group, tuple(seed for seed in every if seed not in group.seeds)) for group in groups]
    return tuple((group, seeds) for group, seeds in lacking if seeds)


def _target(groups: Sequence[Group], finals: Sequence[float | None], target: float | None) -> tuple[float, str] | None:
    """A search score and where it comes from; a group of which half the runs found nothing has no median to be a target."""
    if target is not None:
        return target, "as asked"
    medians = {group.label: score for group, score in zip(groups, finals, strict=True)}
    known = [(score, label) for label, score in medians.items() if score is not None]
    if not known:
        return None
    plain = _random(groups)
    if plain is not None and (found := medians[plain.label]) is not None:
        return found, f"the median final best search score of {plain.label}"
    score, label = min(known)
    said = f"the median final best search score of {label}"
    without = [label for label, median in medians.items() if median is None]
    return score, f"{said}, the lowest that there is: there is none of {' or '.join(without)}" if without else said


def _to_target(curves: NDArray[np.float64], target: float) -> tuple[float, ...]:
    reached = curves >= target - _SLACK  # nan is below everything
    first = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)
    return tuple(first.tolist())


def _contrasts(groups: Sequence[Group], reference: Group, *, is_given: bool) -> tuple[tuple[Contrast, ...], int]:
    """All others against the reference, and how many tests were corrected for.

    A reference that the same scores chose is no given one: then the correction is over all pairs, as if each were looked at
    (Garcia and Herrera 2008, JMLR 9).
    """
    others = [group for group in groups if group is not reference]
    pairs = [(group, reference) for group in others]
    if not is_given:
        pairs += list(combinations(others, 2))
    tests = []
    for group, other in pairs:
        shared = [seed for seed in group.seeds if seed in other.seeds]
        if len(shared) >= FEWEST_BLOCKS:
            tests.append((group, other, signed_rank(group.of_seeds(shared), other.of_seeds(shared))))
    adjusted = holm([test.p for _, _, test in tests])
    found = zip(tests, adjusted, strict=True)
    return tuple(Contrast(group, test, p) for (group, other, test), p in found if other is reference), len(tests)


def _order(standing: Standing) -> tuple[float, float, float]:
    worst = math.inf
    return (
        worst if standing.mean_rank is None else standing.mean_rank,
        worst if standing.mean is None else -standing.mean,
        worst if standing.search is None else -standing.search,
    )


def _median(scores: NDArray[np.float64]) -> float | None:
    """With a run without a score as the worst; ``None`` where that leaves none."""
    value = float(np.median(np.where(np.isnan(scores), -np.inf, scores)))
    return value if math.isfinite(value) else None
