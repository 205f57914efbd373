"""Compares runs: who is left out, which group each belongs to, how the groups did and whether that is more than chance."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evo_merge.errors import ConfigError
from evo_merge.report.compared_fronts import as_hypervolumes
from evo_merge.report.compared_runs import ComparedRun
from evo_merge.report.comparison import Contrast, FairComparison, Group, Standing
from evo_merge.report.factors import labels, shortened
from evo_merge.report.rank_tests import FEWEST_BLOCKS, FEWEST_GROUPS, friedman, mean_interval, signed_rank
from evo_merge.report.statistics import holm

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
    _refuse_unlike(runs)
    if runs[0].is_of_several:
        runs = as_hypervolumes(runs)
    groups, left_out = _grouped(runs)
    compared = [run for group in groups for run in group.runs]
    evaluations = min(run.evaluations for run in compared)
    seeds = [seed for seed in groups[0].seeds if all(seed in group.seeds for group in groups)]
    is_tested = all(run.is_finished for run in compared)
    ranked = None
    if is_tested and len(groups) >= FEWEST_GROUPS and len(seeds) >= FEWEST_BLOCKS:
        ranked = friedman(np.stack([group.of_seeds(seeds) for group in groups], axis=1))
    has_curves = evaluations > 0 and not any(run.has_batches for run in compared)
    finals = [_median(group.curves(evaluations)[:, -1]) if has_curves else None for group in groups]
    aim = _target(groups, finals, target) if has_curves else None
    standings = [
        Standing(
            group=group,
            mean_rank=None if ranked is None else ranked.mean_ranks[i],
            mean=float(group.tests.mean()) if is_tested else None,
            interval=mean_interval(group.tests) if is_tested else None,
            search=finals[i],
            to_target=() if aim is None else _to_target(group.curves(evaluations), aim[0]),
        )
        for i, group in enumerate(groups)
    ]
    standings.sort(key=_order)
    reference = _random(groups) or standings[0].group
    every = sorted({run.seed for run in compared}, key=lambda seed: -1 if seed is None else seed)
    lacking = [(s.group, tuple(seed for seed in every if seed not in s.group.seeds)) for s in standings]
    return FairComparison(
        runs=tuple(runs),
        left_out=tuple(left_out),
        standings=tuple(standings),
        evaluations=evaluations,
        friedman=ranked,
        missing=tuple((group, seeds) for group, seeds in lacking if seeds),
        reference=reference,
        contrasts=_contrasts([s.group for s in standings if s.group is not reference], reference) if is_tested else (),
        target=aim,
    )


def _refuse_unlike(runs: Sequence[ComparedRun]) -> None:
    first = runs[0]
    known: dict[str, ComparedRun] = {}  # a split's first run; one that was stopped early has not asked the test split
    for run in runs:
        pair = f"'{first.folder}' and '{run.folder}'"
        if run.task != first.task:
            raise ConfigError(f"{pair} have other tasks, '{first.task}' and '{run.task}'; compare runs of one task")
        for names, of in (("objectives", "objectives="), ("fitness_names", "scalarize=")):
            pair_of = [", ".join(getattr(r, names)) for r in (first, run)]
            if pair_of[0] != pair_of[1]:
                raise ConfigError(
                    f"{pair} maximise other numbers, '{pair_of[0]}' and '{pair_of[1]}'; compare runs with the same {of}…"
                )
        for split, digest in run.asked.items():
            other = known.setdefault(split, run)
            if other.asked[split] != digest:
                raise ConfigError(
                    f"'{other.folder}' and '{run.folder}' were asked other problems of the {split} split; compare runs with "
                    "the same task.*"
                )


def _grouped(runs: Sequence[ComparedRun]) -> tuple[list[Group], list[tuple[Path, str]]]:
    """The groups of the finished runs, or of all that searched where none is finished, and who is left out."""
    chosen = [run for run in runs if run.is_finished] or [run for run in runs if run.evaluations]
    if not chosen:
        raise ConfigError("none of the runs has evaluated a candidate yet; wait for them, or resume them")
    left_out = [(run.folder, "it is not finished") for run in runs if run not in chosen]
    by_label: dict[str, dict[int | None, ComparedRun]] = {}
    for run, label in zip(chosen, labels(chosen), strict=True):
        seen = by_label.setdefault(label, {})
        if run.seed in seen:
            left_out.append((run.folder, f"it has the config and seed of '{seen[run.seed].folder}'"))
        else:
            seen[run.seed] = run
    groups = []
    for (label, by_seed), short in zip(by_label.items(), shortened(list(by_label)), strict=True):
        ordered = sorted(by_seed.values(), key=lambda run: -1 if run.seed is None else run.seed)
        groups.append(Group(label, short, ordered[0].optimizer, tuple(ordered)))
    return groups, left_out


def _random(groups: Sequence[Group]) -> Group | None:
    """Random search, where just one group is that: what any optimizer has to beat."""
    found = [group for group in groups if group.optimizer == "random"]
    return found[0] if len(found) == 1 else None


def _target(groups: Sequence[Group], finals: Sequence[float | None], target: float | None) -> tuple[float, str] | None:
    if target is not None:
        return target, "as asked"
    known = [(score, group.label) for score, group in zip(finals, groups, strict=True) if score is not None]
    plain = _random(groups)
    of_plain = [(score, label) for score, label in known if plain is not None and label == plain.label]
    if not known:
        return None
    score, label = min(of_plain or known)
    return score, f"the median final best search score of {label}"


def _to_target(curves: NDArray[np.float64], target: float) -> tuple[float, ...]:
    reached = curves >= target - _SLACK  # nan is below everything
    first = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)
    return tuple(first.tolist())


def _contrasts(others: Sequence[Group], reference: Group) -> tuple[Contrast, ...]:
    tests = []
    for group in others:
        shared = [seed for seed in group.seeds if seed in reference.seeds]
        if len(shared) >= FEWEST_BLOCKS:
            tests.append((group, signed_rank(group.of_seeds(shared), reference.of_seeds(shared))))
    adjusted = holm([test.p for _, test in tests])
    return tuple(Contrast(group, test, p) for (group, test), p in zip(tests, adjusted, strict=True))


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
