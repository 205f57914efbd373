"""What an evaluation is: one number per example per metric, and the completions. Nothing is averaged early."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one recipe did on one split.

    Attributes:
        metrics: Names of the columns of ``scores``, the objectives first.
        n_objectives: How many of them are objectives.
        scores: ``(n_examples, n_metrics)`` ``float64``, in the order of the split's examples; empty where it failed.
        completions: One a row of ``scores``.
        failure: Why the candidate could not be built or scored; ``None`` where it could.
        merge_seconds: Building the candidate.
        evaluation_seconds: Answering and scoring.
        new_tokens: Tokens generated.
        positions: Where each row's example stands in the split; ``None`` where the rows are the whole split in order.
    """

    metrics: tuple[str, ...]
    n_objectives: int
    scores: NDArray[np.float64]
    completions: tuple[str, ...]
    failure: str | None = None
    merge_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    new_tokens: int = 0
    positions: tuple[int, ...] | None = None

    @property
    def means(self) -> dict[str, float]:
        """Mean of every metric over the examples; empty where the candidate failed."""
        if self.failure is not None:
            return {}
        return {name: float(value) for name, value in zip(self.metrics, self.scores.mean(axis=0), strict=True)}

    @property
    def fitness(self) -> NDArray[np.float64]:
        """``(n_objectives,)``, higher is better; minus infinity where the candidate failed."""
        if self.failure is not None:
            return np.full(self.n_objectives, -np.inf)
        return np.asarray(self.scores[:, : self.n_objectives].mean(axis=0), dtype=np.float64)

    def column(self, metric: str) -> NDArray[np.float64]:
        """``(n_examples,)``, one metric over the examples."""
        return np.asarray(self.scores[:, self.metrics.index(metric)], dtype=np.float64)


def failed(metrics: tuple[str, ...], n_objectives: int, reason: str, merge_seconds: float = 0.0) -> Evaluation:
    """The evaluation of a candidate that could not be built or scored."""
    return Evaluation(metrics, n_objectives, np.zeros((0, len(metrics))), (), failure=reason, merge_seconds=merge_seconds)
