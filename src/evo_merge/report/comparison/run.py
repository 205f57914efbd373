"""What a comparison needs of each run, read from its study without its recipes, of which many runs have too many."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from evo_merge.errors import StudyError
from evo_merge.evaluation.base import Evaluation
from evo_merge.recipe import recipe_hash
from evo_merge.report.optimizer_name import optimizer_name
from evo_merge.statistics.intervals import Interval, interval
from evo_merge.study import Study, opened
from evo_merge.study_file import FILE_NAME
from evo_merge.study_records import Entrant


@dataclass(frozen=True, slots=True, eq=False)  # by identity: arrays have no one answer
class ComparedRun:
    """A run as a comparison sees it.

    Attributes:
        config: Every number of the run by its dotted key; empty where the study has none.
        objectives: Names of what the run wants.
        fitness_names: The same, or the one number that the run makes of several; scores here are of the first.
        constraints: The bounds that candidates had to keep to, by name: numbers, or names of sources.
        asked: Digest of the problems of each split that the run has.
        evaluations: Candidates evaluated, failed ones included, repeats not: what a budget counts.
        best_so_far: ``(evaluations,)``, the highest search score after each, of candidates that meet the constraints; nan
            before the first of them.
        has_batches: Whether each generation was asked other problems, so that there is no best so far.
        chosen_after: How many evaluations it took to the chosen candidate; ``None`` where the run has not chosen yet.
        test: The chosen model's score on the test split; ``None`` before it was asked.
        dead_end: Why the run has no model to compare, where more time would hardly help: nothing could be scored, or kept to
            the constraints, or the chosen model failed on the test split. Empty where there is no such reason.
        test_interval: 95 %, over the choice of problems.
        best_source: The highest test score of a source.
        unoptimised: Test score of the merge with every gene at its start.
        search_rows: Where the fitness has several numbers: how many evaluations a candidate took that meets the constraints,
            and its fitness.
        test_rows: Likewise the fitness on the test split of the chosen candidate and of the other members of the front.
    """

    folder: Path
    task: str
    merge: str
    optimizer: str
    seed: int | None
    config: Mapping[str, Any]
    objectives: tuple[str, ...]
    fitness_names: tuple[str, ...]
    constraints: Mapping[str, float | str]
    asked: Mapping[str, str]
    n_test: int
    evaluations: int
    generations: int
    seconds: float
    best_so_far: NDArray[np.float64]
    has_batches: bool
    chosen_after: int | None
    test: float | None
    dead_end: str
    test_interval: Interval | None
    best_source: float | None
    unoptimised: float | None
    search_rows: tuple[tuple[int, tuple[float, ...]], ...] = ()
    test_rows: tuple[tuple[float, ...], ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether the run chose a model and scored it on the test split."""
        return self.test is not None

    @property
    def is_of_several(self) -> bool:
        """Whether its objectives stayed apart, so that no candidate has just one score."""
        return len(self.fitness_names) > 1

    @property
    def is_scalarized(self) -> bool:
        """Whether it makes one number of several objectives."""
        return self.fitness_names != self.objectives

    def part(self, *names: str) -> dict[str, Any]:
        """What the config says below these dotted keys, but for what is empty."""
        begins = tuple(f"{name}." for name in names)
        return {
            key: value
            for key, value in self.config.items()
            if (key in names or key.startswith(begins)) and value not in (None, "", [], {})
        }

    @property
    def best_search(self) -> float | None:
        """The highest search score of all, or ``None``."""
        return float(self.best_so_far[-1]) if len(self.best_so_far) and not math.isnan(self.best_so_far[-1]) else None


def run_folders(folder: Path) -> list[Path]:
    """The folder itself where it holds a run, else those of all runs below it, in the order of their numbers.

    Raises:
        StudyError: There is none.
    """
    if (folder / FILE_NAME).is_file():
        return [folder]
    below = {path.parent for path in folder.rglob(FILE_NAME)}
    if not below:
        raise StudyError(
            f"'{folder}' holds no run: neither it nor a folder in it has a {FILE_NAME}; name a run folder such as "
            "outputs/<day>/<time>, or the folder of a sweep"
        )
    return sorted(below, key=_numbered)


def read_compared(folder: Path) -> ComparedRun:
    """Read a run from its study, finished or not; raises ``StudyError`` where there is none."""
    with opened(Study.read(folder)) as study:
        entrants = study.entrants()
        searched = _search(study, entrants)
        chosen = study.get("best_number")
        tests = {role: _tests(study, entrants, role) for role in ("best", "front", "source", "unoptimised")}
        best = next(iter(tests["best"]), None)
        seed = study.get("seed")
        objectives = tuple(json.loads(study.get("objectives") or "null") or _objectives(best))
        asked = {split: study.examples(split) for split in ("search", "test")}
        return ComparedRun(
            folder=folder,
            task=study.get("task") or "an unnamed task",
            merge=study.get("merge") or "an unnamed merge",
            optimizer=optimizer_name(study),
            seed=None if seed is None else int(seed),
            config=_flat(OmegaConf.to_container(OmegaConf.create(study.get("config") or "{}"))),
            objectives=objectives,
            fitness_names=tuple(json.loads(study.get("fitness") or "null") or objectives),
            constraints=json.loads(study.get("constraints") or "null") or {},
            asked={split: _digest(repr(examples)) for split, examples in asked.items() if examples},
            n_test=len(asked["test"]),
            evaluations=len(searched.best_so_far),
            generations=len({(proposal.stage, proposal.generation) for proposal in study.proposals()}),
            seconds=study.seconds,
            best_so_far=searched.best_so_far,
            has_batches=searched.has_batches,
            chosen_after=None if chosen is None else searched.after.get(int(chosen)),
            test=None if best is None else float(best.fitness[0]),
            dead_end="" if best is not None else _dead_end(study, entrants, searched, is_chosen=chosen is not None),
            test_interval=None if best is None else _interval(best),
            best_source=_highest(tests["source"]),
            unoptimised=_highest(tests["unoptimised"]),
            search_rows=searched.rows,
            test_rows=tuple(tuple(e.fitness.tolist()) for e in (*tests["best"], *tests["front"]) if len(e.fitness) > 1),
        )


@dataclass(frozen=True, slots=True)
class _Searched:
    best_so_far: NDArray[np.float64]
    has_batches: bool
    n_scored: int  # candidates that did not fail on the search split, those that miss a constraint included
    after: Mapping[int, int]  # evaluations it took to a candidate, by its number
    rows: tuple[tuple[int, tuple[float, ...]], ...]


def _search(study: Study, entrants: Sequence[Entrant]) -> _Searched:
    """What the candidates scored, in the order of the search.

    What is known beforehand, or proposed again, costs nothing, as in the budget. Scores of a stage with a task of its own, or
    on a part of the problems, are counted and say nothing about the best.
    """
    free = {recipe_hash(e.recipe) for e in entrants if e.role not in ("best", "front", "ablation", "stage")}
    seen = {(digest, "search") for digest in free}
    curve: list[float] = []
    after: dict[int, int] = {}
    rows: list[tuple[int, tuple[float, ...]]] = []
    best, has_batches, n_scored = -math.inf, False, 0
    for proposal in study.proposals():
        if not proposal.is_evaluated:
            continue
        is_new = (proposal.recipe, proposal.portion) not in seen
        seen.add((proposal.recipe, proposal.portion))
        has_batches |= ":" in proposal.portion
        outcome = study.outcome(proposal) if proposal.portion == "search" else None
        n_scored += outcome is not None
        if outcome is not None and outcome[1] == 0:  # one that misses a constraint may not be chosen
            best = max(best, float(outcome[0][0]))
            if len(outcome[0]) > 1:
                rows.append((len(curve) + is_new, tuple(outcome[0].tolist())))
        if is_new:
            curve.append(best if math.isfinite(best) else math.nan)
        elif curve and math.isfinite(best):
            curve[-1] = best
        after[proposal.number] = len(curve)
    return _Searched(np.asarray(curve, dtype=np.float64), has_batches, n_scored, after, tuple(rows))


def _dead_end(study: Study, entrants: Sequence[Entrant], searched: _Searched, *, is_chosen: bool) -> str:
    if is_chosen:
        tested = [study.evaluation(entrant.recipe, "test") for entrant in entrants if entrant.role == "best"]
        reasons = [e.failure for e in tested if e is not None and e.failure is not None]
        return f"its chosen model failed on the test split ({reasons[0].rstrip('.')})" if reasons else ""
    if not len(searched.best_so_far) or searched.has_batches or not math.isnan(searched.best_so_far[-1]):
        return ""
    if searched.n_scored:
        return "none of its candidates kept to the constraints"
    return "none of its candidates could be scored"


def _tests(study: Study, entrants: Sequence[Entrant], role: str) -> list[Evaluation]:
    found = [study.evaluation(entrant.recipe, "test") for entrant in entrants if entrant.role == role]
    return [e for e in found if e is not None and e.failure is None and len(e.scores)]


def _highest(evaluations: Sequence[Evaluation]) -> float | None:
    return max((float(e.fitness[0]) for e in evaluations), default=None)


def _interval(evaluation: Evaluation) -> Interval | None:
    """Of the first objective; ``None`` where the score is made of several, which have no example in common."""
    if evaluation.scalar is not None:
        return None
    return interval(evaluation.column(evaluation.metrics[0]))


def _objectives(best: Evaluation | None) -> tuple[str, ...]:
    return ("score",) if best is None else best.metrics[: best.n_objectives]


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys; a list is one value."""
    if not isinstance(node, Mapping) or (prefix and not node):
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, child in node.items():
        flat |= _flat(child, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _numbered(folder: Path) -> tuple[tuple[bool, int, str], ...]:
    """``9`` before ``10``."""
    return tuple((not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in folder.parts)
