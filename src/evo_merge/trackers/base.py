"""What a tracker is told: once what is searched, then every candidate and generation, and at the end the result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genome
from evo_merge.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Candidate:
    """A genome, and what it scored on the search split.

    Attributes:
        number: Counts the candidates of the run from 0.
        stage: Which search of the run it belongs to; empty where there is only one.
        generation: Counts the stage's rounds of ask and tell from 0.
        round: Counts those of the whole run.
        repeated: Its recipe had been evaluated before, so that it cost nothing.
        is_stopped: A race stopped it, so that its scores are about some of the problems, and not to be held against others'.
    """

    number: int
    stage: str
    generation: int
    round: int
    genome: Genome
    recipe: Recipe
    evaluation: Evaluation
    repeated: bool
    is_stopped: bool = False


@dataclass(frozen=True, slots=True)
class SearchStart:
    """What is known before the first candidate of a stage.

    Attributes:
        stage: Its name; empty where the run has only one.
        run_folder: Where the run keeps everything.
        config: The composed config as plain values, for comparison between runs.
        genes: The names and boxes of the numbers of a genome.
        objectives: Names of the fitness columns: one where the run makes one number of several objectives.
        baselines: Fitness on the search split of every source and un-tuned merge, by name.
        evaluations: Candidates that the budget allows, where it counts them.
        evaluated: Candidates already evaluated, where the run is resumed.
        seconds: Time already spent, where the run is resumed.
        evidence: What the test split will be able to show, in a sentence; empty where it is about nothing.
        front: The best candidates so far, where the run is resumed: one, or of several objectives those that none dominates.
    """

    stage: str
    run_folder: Path
    config: Mapping[str, Any]
    genes: tuple[Gene, ...]
    objectives: tuple[str, ...]
    baselines: Mapping[str, float]
    evaluations: int | None
    evaluated: int
    seconds: float
    front: tuple[Candidate, ...] = ()
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Generation:
    """One round of ask and tell of a stage."""

    number: int
    round: int
    candidates: Sequence[Candidate]


class Tracker(Protocol):
    """Someone who wants to see the run.

    Called in this order, ``start`` to ``generation`` again for each stage and when one goes on after another; ``close`` is
    always called once, also after an error.
    """

    def start(self, start: SearchStart) -> None:
        """A stage's search begins, or goes on."""

    def candidate(self, candidate: Candidate) -> None:
        """A candidate was evaluated (not called again for those evaluated before a resume)."""

    def generation(self, generation: Generation) -> None:
        """A generation was told to the optimizer (not called again for those logged before a resume)."""

    def stage(self, text: str) -> None:
        """What goes on outside the search, in a few words: scoring sources, scoring the test split, writing the model."""

    def finish(self, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
        """The run is complete: the content of ``summary.json``, and the files worth keeping (recipe, report)."""

    def close(self) -> None:
        """Nothing more will come."""
