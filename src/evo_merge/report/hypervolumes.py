"""The hypervolume of everything evaluated so far, generation by generation: one number for how good a whole front is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evo_merge.pareto import front, hypervolume
from evo_merge.report.searched import SearchedCandidate

Rows = Sequence[tuple[float, ...]]  # of fitness, higher is better


@dataclass(frozen=True, slots=True)
class Hypervolumes:
    """Volumes between a reference point and the fronts so far.

    Attributes:
        reference: ``(n_objectives,)``.
        is_worst: For each objective whether the reference is the worst value seen; where not, it is 0.
        by_generation: After each generation, of all candidates until then that keep to the constraints.
        before: Of the sources and the un-tuned merges together.
    """

    reference: tuple[float, ...]
    is_worst: tuple[bool, ...]
    by_generation: tuple[float, ...]
    before: float


def of_candidates(candidates: Sequence[SearchedCandidate], before: Rows) -> Hypervolumes | None:
    """Of a run's candidates, but for those that were asked other problems than the whole search split of its own task."""
    comparable = [c for c in candidates if not c.is_of_batch and not c.has_own_task]
    generations: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    for candidate in comparable:
        found = generations.setdefault((candidate.stage, candidate.generation), [])
        if candidate.fitness and candidate.violation == 0:
            found.append(candidate.fitness)
    return hypervolumes(list(generations.values()), before, [c.fitness for c in comparable if c.fitness])


def hypervolumes(generations: Sequence[Rows], before: Rows, seen: Rows) -> Hypervolumes | None:
    """Of the rows of each generation, and of what was there before; ``None`` where no candidate has a score.

    The reference point is 0 where all values of an objective are fractions in [0, 1], else the worst one seen.

    Args:
        generations: Fitness of the candidates that count, a list a generation.
        before: Of the models that were there before the search.
        seen: Of all candidates, those that miss a constraint too.
    """
    if not seen:
        return None
    values = np.asarray([*seen, *before])  # (n, n_objectives)
    worst: NDArray[np.bool_] = np.asarray(((values < 0) | (values > 1)).any(axis=0))
    reference = np.where(worst, values.min(axis=0), 0.0)
    n_objectives = values.shape[1]
    kept: NDArray[np.float64] = np.zeros((0, n_objectives))
    volumes: list[float] = []
    for rows in generations:
        joined = np.concatenate([kept, np.asarray(rows, dtype=np.float64).reshape(-1, n_objectives)])
        joined = joined[front(joined)]
        is_same = bool(volumes) and np.array_equal(joined, kept)
        kept = joined
        volumes.append(volumes[-1] if is_same else hypervolume(kept, reference.tolist()))
    return Hypervolumes(
        tuple(reference.tolist()),
        tuple(bool(each) for each in worst),
        tuple(volumes),
        hypervolume(list(before), reference.tolist()),
    )
