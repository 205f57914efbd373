"""The loop: ask, decode, evaluate, tell, record. Resuming is the same loop, which finds in the study what is known already."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from evo_merge.errors import ConfigError, Interrupted
from evo_merge.evaluation.base import Evaluation
from evo_merge.optimizers.base import Optimizer
from evo_merge.recipe import Recipe, recipe_hash
from evo_merge.spaces.base import MergeSpace
from evo_merge.study import StoredCandidate, Study
from evo_merge.tasks.base import Split
from evo_merge.trackers.base import Candidate, Generation, Tracker

log = logging.getLogger(__name__)
_LOGGED = "logged_generations"
_MAX_IDLE = 100  # generations in a row without a new recipe; free as they are, no other limit would ever end them


class Evaluator(Protocol):
    """Scores recipes."""

    def evaluate(self, recipe: Recipe, split: Split) -> Evaluation:
        """Score a recipe on a split; one that cannot be built comes back as failed, with the reason."""


@dataclass(frozen=True, slots=True)
class Budget:
    """When a search ends: at the first of these that is reached, between generations. ``None`` is no limit.

    Attributes:
        evaluations: Candidates proposed and evaluated; repeats of a known recipe are free.
        generations: Rounds of ask and tell.
        minutes: Time spent on the run, over all its sessions.
        patience: Generations without a better candidate.
    """

    evaluations: int | None = None
    generations: int | None = None
    minutes: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        limits = {name: getattr(self, name) for name in ("evaluations", "generations", "minutes", "patience")}
        for name, value in limits.items():
            if value is not None and not value > 0:
                raise ConfigError(f"budget.{name} must be above 0 or null, got {value}")
        if all(value is None for value in limits.values()):
            raise ConfigError(
                "the budget has no limit; set budget.evaluations, budget.generations, budget.minutes or budget.patience"
            )


class Recorded:
    """An evaluator that asks the study first and records what it evaluates, before anyone hears of it.

    Args:
        evaluator: Asked for what is not known.
        study: The run's memory.
        stop_wanted: Whether the user asked to stop; looked at after every evaluation.
    """

    def __init__(self, evaluator: Evaluator, study: Study, stop_wanted: Callable[[], bool]) -> None:
        self._evaluator, self._study, self._stop_wanted = evaluator, study, stop_wanted

    def evaluate(self, recipe: Recipe, split: Split) -> tuple[Evaluation, bool]:
        """The evaluation, and whether it was known before.

        Raises:
            Interrupted: The user asked to stop; what was evaluated is recorded.
        """
        known = self._study.evaluation(recipe, split)
        if known is not None:
            return known, True
        if self._stop_wanted():
            raise Interrupted
        log.info("evaluating recipe %s on %s", recipe_hash(recipe)[:8], split)
        evaluation = self._evaluator.evaluate(recipe, split)
        self._study.record_evaluation(recipe, split, evaluation)
        if evaluation.failure is not None:
            log.info("recipe %s failed: %s", recipe_hash(recipe)[:8], evaluation.failure)
        return evaluation, False


def search(
    space: MergeSpace,
    optimizer: Optimizer,
    evaluator: Recorded,
    study: Study,
    trackers: Sequence[Tracker],
    budget: Budget,
) -> None:
    """Run generations until the budget is spent; everything found is in the study.

    Raises:
        Interrupted: The user asked to stop.
        StudyError: A resumed run does not propose what it proposed before.
    """
    stored = study.candidates()
    recorded = {candidate.generation for candidate in stored}
    # Candidates are evaluated in order, so the trackers heard of all before the first that was not.
    n_told = next((c.number for c in stored if not study.is_evaluated(c.recipe, "search")), len(stored))
    n_logged = int(study.get(_LOGGED) or 0)
    known = _free(study)
    best, best_generation, number, n_evaluated, n_idle = -math.inf, 0, 0, 0, 0
    # A generation that was begun before a resume is always finished, whatever the budget says now.
    while number in recorded or not _spent(budget, study, n_evaluated, number, best_generation):
        if n_idle == _MAX_IDLE:
            log.warning("the search ends: the last %d generations proposed nothing new", n_idle)
            break
        genomes = optimizer.ask()
        recipes = [space.decode(genome) for genome in genomes]
        numbers = study.record_generation(number, list(genomes), recipes)
        candidates = []
        for index, genome, recipe in zip(numbers, genomes, recipes, strict=True):
            evaluation, _ = evaluator.evaluate(recipe, "search")
            key = recipe_hash(recipe)
            candidate = Candidate(index, number, genome, evaluation, repeated=key in known)
            n_evaluated += not candidate.repeated
            known.add(key)
            candidates.append(candidate)
            if index >= n_told:
                for tracker in trackers:
                    tracker.candidate(candidate)
            if evaluation.fitness[0] > best:
                best, best_generation = float(evaluation.fitness[0]), number
        optimizer.tell(genomes, [candidate.evaluation for candidate in candidates])
        if number >= n_logged:
            for tracker in trackers:
                tracker.generation(Generation(number, candidates))
            study.set(_LOGGED, str(number + 1))
        n_idle = n_idle + 1 if all(candidate.repeated for candidate in candidates) else 0
        number += 1


def count_evaluated(study: Study) -> int:
    """Candidates evaluated so far, as the budget counts them."""
    evaluated = {recipe_hash(c.recipe) for c in study.candidates() if study.is_evaluated(c.recipe, "search")}
    return len(evaluated - _free(study))


def ranked_candidates(study: Study, limit: int) -> list[Candidate]:
    """The best evaluated candidates by search score, among equals the earlier first; without failed and repeated ones."""
    fitness: dict[str, float] = {}
    first: dict[str, StoredCandidate] = {}
    for stored in study.candidates():
        key = recipe_hash(stored.recipe)
        evaluation = None if key in first else study.evaluation(stored.recipe, "search")
        if evaluation is not None and evaluation.failure is None:
            fitness[key], first[key] = float(evaluation.fitness[0]), stored  # not kept: its completions may be many
    best = sorted(first, key=lambda key: -fitness[key])[:limit]
    return [_told(first[key], study) for key in best]


def _told(stored: StoredCandidate, study: Study) -> Candidate:
    evaluation = study.evaluation(stored.recipe, "search")
    assert evaluation is not None, "only evaluated candidates are ranked"
    return Candidate(stored.number, stored.generation, stored.genome, evaluation, repeated=False)


def _free(study: Study) -> set[str]:
    """Recipes that cost no budget when a candidate has them: the sources' and the un-tuned merges'."""
    return {recipe_hash(entrant.recipe) for entrant in study.entrants() if entrant.role != "best"}


def _spent(budget: Budget, study: Study, n_evaluated: int, n_generations: int, best_generation: int) -> bool:
    return (
        (budget.evaluations is not None and n_evaluated >= budget.evaluations)
        or (budget.generations is not None and n_generations >= budget.generations)
        or (budget.minutes is not None and study.seconds >= 60 * budget.minutes)
        or (budget.patience is not None and n_generations - best_generation > budget.patience)
    )
