"""What an evaluation is: one number per example per metric, and the completions. Nothing is averaged early."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evo_merge.evaluation.cost import NOTHING, Cost


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one recipe did on one split.

    Attributes:
        metrics: Names of the columns of ``scores``, the objectives first.
        n_objectives: How many of them are objectives.
        scores: ``(n_examples, n_metrics)`` ``float64``, in the order of the split's examples; nan where an example is not one
            of the metric's; empty where the candidate failed.
        completions: One a row of ``scores``; where continuations were compared, the label of the most likely one.
        failure: Why the candidate could not be built or scored; ``None`` where it could.
        cost: What it took.
        positions: Where each row's example stands in the split; ``None`` where the rows are the whole split in order.
        scalar: What a run makes of several objectives where it makes one number of them.
        violation: By how much the run's constraints are missed, summed over them; 0 where all are met.
        written: Which completions the model wrote itself, one a row; ``None`` where all, or where the evaluation comes from a
            study, which has the columns made of it.
    """

    metrics: tuple[str, ...]
    n_objectives: int
    scores: NDArray[np.float64]
    completions: tuple[str, ...]
    failure: str | None = None
    cost: Cost = NOTHING
    positions: tuple[int, ...] | None = None
    scalar: float | None = None
    violation: float = 0.0
    written: tuple[bool, ...] | None = None

    @property
    def means(self) -> dict[str, float]:
        """Mean of every metric over its examples, nan where there are none; empty where the candidate failed."""
        if self.failure is not None:
            return {}
        return {name: _mean(self.column(name)) for name in self.metrics}

    @property
    def objectives(self) -> NDArray[np.float64]:
        """``(n_objectives,)``, each objective's mean, higher is better; minus infinity where the candidate failed."""
        if self.failure is not None:
            return np.full(self.n_objectives, -np.inf)
        return np.asarray([_mean(self.column(name)) for name in self.metrics[: self.n_objectives]], dtype=np.float64)

    @property
    def fitness(self) -> NDArray[np.float64]:
        """What is maximised: ``(1,)`` where the run makes one number of its objectives, else ``objectives``."""
        return self.objectives if self.scalar is None else np.asarray([self.scalar], dtype=np.float64)

    def column(self, metric: str) -> NDArray[np.float64]:
        """``(n,)``, one metric over its own examples, in the order of the rows."""
        column = np.asarray(self.scores[:, self.metrics.index(metric)], dtype=np.float64)
        return np.asarray(column[~np.isnan(column)], dtype=np.float64)


def _mean(column: NDArray[np.float64]) -> float:
    return float(column.mean()) if len(column) else math.nan


def failed(metrics: tuple[str, ...], n_objectives: int, reason: str, cost: Cost = NOTHING) -> Evaluation:
    """The evaluation of a candidate that could not be built or scored."""
    return Evaluation(metrics, n_objectives, np.zeros((0, len(metrics))), (), failure=reason, cost=cost)
