"""A comparison of runs: groups that differ in more than the seed, at the same number of evaluations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evo_merge.report.comparison.hypervolumes import ReferencePoints
from evo_merge.report.comparison.run import ComparedRun
from evo_merge.statistics.intervals import Interval
from evo_merge.statistics.ranks import Friedman, SignedRank


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ in nothing but the seed, in the order of the seeds, each seed once.

    Attributes:
        label: What tells it from the other groups, ``optimizer=cmaes``.
        short: The same without what the labels of all groups begin with, ``cmaes``, for figures.
    """

    label: str
    short: str
    optimizer: str
    runs: tuple[ComparedRun, ...]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """One a run."""
        return tuple(run.seed for run in self.runs)

    @property
    def tests(self) -> NDArray[np.float64]:
        """``(n_runs,)``, the test score of each; nan where there is none yet."""
        return np.asarray([math.nan if run.test is None else run.test for run in self.runs])

    def curves(self, evaluations: int) -> NDArray[np.float64]:
        """``(n_runs, evaluations)``, best search score so far of each."""
        return np.stack([run.best_so_far[:evaluations] for run in self.runs])

    def of_seeds(self, seeds: Sequence[int | None]) -> NDArray[np.float64]:
        """``(n_seeds,)``, the test scores of the runs of these seeds."""
        by_seed = dict(zip(self.seeds, self.tests.tolist(), strict=True))
        return np.asarray([by_seed[seed] for seed in seeds])


@dataclass(frozen=True, slots=True)
class Standing:
    """How a group did.

    Attributes:
        mean_rank: In Friedman's test; ``None`` where there is none.
        mean: Of the runs' test scores; ``None`` before there are any.
        shared_mean: The same over the seeds that every group has, which the ranks are of; ``None`` where there are none.
        interval: Student's 95 % interval of ``mean``; ``None`` below three runs.
        search: Median of the best search scores at the compared number of evaluations; ``None`` where there is none.
        to_target: Evaluations of each run until its best search score was the target, in the order of the runs; infinite
            where it never was. Empty where there is no target.
    """

    group: Group
    mean_rank: float | None
    mean: float | None
    shared_mean: float | None
    interval: Interval | None
    search: float | None
    to_target: tuple[float, ...]

    @property
    def n_reached(self) -> int:
        """Runs that reached the target."""
        return sum(math.isfinite(n) for n in self.to_target)

    @property
    def median_to_target(self) -> float:
        """Infinite where half of the runs or more never reached it."""
        return float(np.median(self.to_target))


@dataclass(frozen=True, slots=True)
class Contrast:
    """A group against the reference group, by test scores of the seeds that both have; p by Holm over all that were tested."""

    group: Group
    test: SignedRank
    p_holm: float


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that is not compared.

    Attributes:
        is_flattering: Whether it ended without a model to compare, so that its group looks better without it.
    """

    folder: Path
    reason: str
    is_flattering: bool = False


@dataclass(frozen=True, slots=True)
class FairComparison:
    """Runs on one task, compared.

    Attributes:
        runs: All that were named.
        left_out: Those that are not compared.
        standings: One a group, the best first: by mean rank, else by mean test score, else by search score.
        evaluations: The largest number that all compared runs made.
        seeds: Those that every group has.
        friedman: ``None`` where it cannot be computed.
        missing: What each group lacks of the seeds of the others.
        reference: The group that the others are tested against.
        is_reference_random: Whether that is random search; else it is the first of the standings, chosen by the same scores.
        contrasts: One for every other group that has seeds in common with it.
        n_tests: Pairs that Holm's correction is over: the contrasts, or all pairs where the scores chose the reference.
        above: Where the hypervolumes begin; ``None`` where scores are no hypervolumes.
        target: A search score, and where it comes from; ``None`` where there are no search scores to compare.
    """

    runs: tuple[ComparedRun, ...]
    left_out: tuple[LeftOut, ...]
    standings: tuple[Standing, ...]
    evaluations: int
    seeds: tuple[int | None, ...]
    friedman: Friedman | None
    missing: tuple[tuple[Group, tuple[int | None, ...]], ...]
    reference: Group
    is_reference_random: bool
    contrasts: tuple[Contrast, ...]
    n_tests: int
    target: tuple[float, str] | None
    above: ReferencePoints | None

    @property
    def groups(self) -> tuple[Group, ...]:
        """The best first."""
        return tuple(standing.group for standing in self.standings)

    @property
    def compared(self) -> tuple[ComparedRun, ...]:
        """The runs of all groups."""
        return tuple(run for group in self.groups for run in group.runs)

    @property
    def has_curves(self) -> bool:
        """Whether every compared run has a best so far."""
        return self.evaluations > 0 and not any(run.has_batches for run in self.compared)

    @property
    def is_tested(self) -> bool:
        """Whether the compared runs have test scores."""
        return self.standings[0].mean is not None

    @property
    def is_fraction(self) -> bool:
        """Whether scores are shares of problems, to be written in percent."""
        return are_fractions(self.runs)


def are_fractions(runs: Sequence[ComparedRun]) -> bool:
    """Whether scores are of one objective and all lie in [0, 1]; what is made of several is a plain number wherever it lies."""
    if any(run.is_of_several or run.is_scalarized for run in runs):
        return False
    known = [score for run in runs for score in (run.test, run.best_search) if score is not None]
    return all(0 <= score <= 1 for score in known)
