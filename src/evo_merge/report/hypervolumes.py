"""The hypervolume of everything evaluated so far, generation by generation: one number for how good a whole front is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evo_merge.pareto import front, hypervolume
from evo_merge.report.searched import SearchedCandidate

Row = tuple[float, ...]  # fitness of a candidate, higher is better


@dataclass(frozen=True, slots=True)
class Hypervolumes:
    """Volumes between a reference point and the fronts so far.

    Attributes:
        reference: ``(n_objectives,)``.
        is_worst: For each objective whether the reference is the worst value of a candidate that counts; where not, it is 0.
        by_generation: After each generation, of all candidates until then that keep to the constraints.
        before: Of the sources and the un-tuned merges together, as far as they keep to the constraints too.
    """

    reference: tuple[float, ...]
    is_worst: tuple[bool, ...]
    by_generation: tuple[float, ...]
    before: float


def reference_point(rows: Iterable[Row]) -> Row:
    """``(n_objectives,)``: 0 where every value of an objective is a fraction in [0, 1], else the worst; empty without rows.

    Args:
        rows: Of all candidates that count: those that keep to the constraints.
    """
    values = np.asarray(list(rows))  # (n, n_objectives)
    return tuple(np.where(_are_fractions(values), 0.0, values.min(axis=0)).tolist()) if len(values) else ()


def of_candidates(candidates: Sequence[SearchedCandidate], before: Sequence[Row]) -> Hypervolumes | None:
    """Of a run's candidates, but for those that were asked other problems than the whole search split of its own task."""
    generations: dict[tuple[str, int], list[Row]] = {}
    for candidate in candidates:
        if not candidate.is_of_batch and not candidate.has_own_task:
            found = generations.setdefault((candidate.stage, candidate.generation), [])
            if candidate.fitness and candidate.violation == 0:
                found.append(candidate.fitness)
    return hypervolumes(list(generations.values()), before)


def hypervolumes(generations: Sequence[Sequence[Row]], before: Sequence[Row]) -> Hypervolumes | None:
    """Of the rows of each generation, and of what was there before; ``None`` where no candidate counts.

    Args:
        generations: Fitness of the candidates that count, a list a generation.
        before: Of the models that were there before the search, those that count.
    """
    counted = [row for rows in generations for row in rows]
    reference = reference_point(counted)
    if not reference:
        return None
    n_objectives = len(reference)
    kept: NDArray[np.float64] = np.zeros((0, n_objectives))
    volumes: list[float] = []
    for rows in generations:
        joined = np.concatenate([kept, np.asarray(rows, dtype=np.float64).reshape(-1, n_objectives)])
        joined = joined[front(joined)]
        is_same = bool(volumes) and np.array_equal(joined, kept)
        kept = joined
        volumes.append(volumes[-1] if is_same else hypervolume(kept, reference))
    is_worst = tuple(not bool(each) for each in _are_fractions(np.asarray(counted)))
    return Hypervolumes(reference, is_worst, tuple(volumes), hypervolume(before, reference))


def _are_fractions(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """``(n_objectives,)``, whether all of ``(n, n_objectives)`` lie between 0 and 1."""
    return np.asarray(((values >= 0) & (values <= 1)).all(axis=0), dtype=np.bool_)
