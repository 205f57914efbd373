"""The loop: ask, decode, evaluate, tell, record. Resuming is the same loop, which finds in the study what is known already."""

import itertools
import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from threadpoolctl import threadpool_limits

from evo_merge.archive import record_archive
from evo_merge.errors import ConfigError, Interrupted
from evo_merge.evaluation.base import Evaluation
from evo_merge.optimizers.base import Optimizer
from evo_merge.pareto import Front
from evo_merge.racing.race import Race, in_full, told
from evo_merge.recipe import Recipe, recipe_hash
from evo_merge.spaces.base import MergeSpace
from evo_merge.study import Study
from evo_merge.study_records import Proposal
from evo_merge.tasks.base import Portion
from evo_merge.trackers.base import Candidate, Generation, SearchStart, Tracker

log = logging.getLogger(__name__)
_LOGGED = "logged_generations"  # of each stage
_MAX_IDLE = 100  # generations in a row without a new recipe; free as they are, no other limit would ever end them


class Evaluator(Protocol):
    """Scores recipes."""

    def evaluate(self, recipe: Recipe, portion: Portion) -> Evaluation:
        """Score a recipe on a split, or some of it; one that cannot be built comes back as failed, with the reason."""


@dataclass(frozen=True, slots=True)
class Budget:
    """When a search ends: at the first of these that is reached, between generations. ``None`` is no limit.

    Attributes:
        evaluations: Candidates proposed and evaluated; repeats of a known recipe are free.
        generations: Rounds of ask and tell.
        minutes: Time spent on the run, over all its sessions.
        patience: Generations without a better candidate; of several objectives, without one that none dominates.
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

    def evaluate(self, recipe: Recipe, portion: Portion) -> Evaluation:
        """The evaluation, known or new.

        Raises:
            Interrupted: The user asked to stop; what was evaluated is recorded.
        """
        known = self._study.evaluation(recipe, portion.key)
        if known is not None:
            return known
        if self._stop_wanted():
            raise Interrupted
        log.info("evaluating recipe %s on %s", recipe_hash(recipe)[:8], portion.key)
        evaluation = self._evaluator.evaluate(recipe, portion)
        self._study.record_evaluation(recipe, portion, evaluation)
        if evaluation.failure is not None:
            log.info("recipe %s failed: %s", recipe_hash(recipe)[:8], evaluation.failure)
        return evaluation


@dataclass(frozen=True)
class Run:
    """What the searches of a run share.

    Attributes:
        study: The run's memory.
        trackers: Who hears of every candidate.
        start: What trackers are told before each search, but for what is the search's own.
        rounds: Counts the generations of all searches.
    """

    study: Study
    trackers: Sequence[Tracker]
    start: Callable[..., SearchStart]
    rounds: Iterator[int] = field(default_factory=itertools.count)


@dataclass(frozen=True)
class Stage:
    """One search of a run: which box, who proposes, who scores.

    Attributes:
        name: Empty where the run has only one.
        space: The box.
        optimizer: Proposes genomes of it.
        evaluator: Scores the recipes.
        portion: What the candidates of a generation are asked, by its number.
        objectives: Names of what the optimizer is told.
        race: Stops the candidates that are out of the best of their generation; ``None`` asks all of them everything.
    """

    name: str
    space: MergeSpace
    optimizer: Optimizer
    evaluator: Recorded
    portion: Callable[[int], Portion]
    objectives: tuple[str, ...]
    race: Race | None = None


class Search:
    """The loop of one stage, which may be left and entered again.

    Attributes:
        stage: What it searches.
        front: The best candidates so far: one, or those that none dominates where there are several objectives.
    """

    def __init__(self, stage: Stage, run: Run) -> None:
        self.stage, self._run = stage, run
        self.front: Front[Candidate] = Front()
        self._number = 0  # of the next generation
        self._best_generation = 0
        self._n_evaluated = 0
        self._n_idle = 0  # generations in a row without a new recipe
        proposals = run.study.proposals()
        self._recorded = {proposal.generation for proposal in proposals if proposal.stage == stage.name}
        self._n_told = _n_told(proposals, is_raced=stage.race is not None)
        self._known = {(digest, "search") for digest in _free(run.study)}  # they were asked the whole split

    def advance(self, budget: Budget) -> None:
        """Run generations until the budget of the stage is spent; everything found is in the study.

        Raises:
            Interrupted: The user asked to stop.
            StudyError: A resumed run does not propose what it proposed before.
        """
        self._begin(budget.evaluations)
        self._repeat()  # a generation that was begun before a resume is always finished, whatever the budget says now
        while not self._spent(budget):
            if self._n_idle >= _MAX_IDLE:
                log.warning("the search ends: the last %d generations proposed nothing new", self._n_idle)
                break
            self._generation()
        record_archive(self._run.study, self.stage.optimizer, self.stage.name)

    def advance_to(self, generations: int) -> None:
        """Run generations until there are so many, and no further where a resumed run has more: others have their turn.

        Raises:
            Interrupted: The user asked to stop.
            StudyError: A resumed run does not propose what it proposed before.
        """
        self._begin(None)
        while self._number < generations:
            self._generation()

    def replay(self) -> None:
        """Run the generations that the study holds already, and no new one: a later stage builds on what they found.

        Raises:
            Interrupted: The user asked to stop.
            StudyError: A resumed run does not propose what it proposed before.
        """
        self._begin(None)
        self._repeat()

    def _repeat(self) -> None:
        while self._number in self._recorded:
            self._generation()

    def _begin(self, evaluations: int | None) -> None:
        study, stage = self._run.study, self.stage
        begin = self._run.start(
            stage=stage.name,
            objectives=stage.objectives,
            genes=stage.space.genes,
            evaluations=evaluations,
            evaluated=count_evaluated(study, stage.name),
            seconds=study.seconds,
            front=tuple(front_candidates(study, [stage.name])),
        )
        for tracker in self._run.trackers:
            tracker.start(begin)

    def _generation(self) -> None:
        study, trackers, stage, number = self._run.study, self._run.trackers, self.stage, self._number
        logged, count = f"{_LOGGED}/{stage.name}", next(self._run.rounds)
        portion = stage.portion(number)
        with _one_thread():
            genomes = stage.optimizer.ask()
            recipes = [stage.space.decode(genome) for genome in genomes]
        numbers = study.record_generation(stage.name, number, portion, list(genomes), recipes)
        if stage.race is None:
            outcomes = in_full(stage.evaluator, recipes, portion)
        else:
            outcomes = stage.race.outcomes(stage.evaluator, recipes, portion, numbers[0])
        candidates, heard = [], []
        for index, genome, recipe, outcome in zip(numbers, genomes, recipes, outcomes, strict=True):
            heard.append(outcome)
            if outcome.asked is not None:
                study.record_stop(index, outcome.asked)
            is_stopped = outcome.asked is not None and outcome.evaluation.failure is None
            key = (recipe_hash(recipe), portion.key)
            candidate = Candidate(
                number=index,
                stage=stage.name,
                generation=number,
                round=count,
                genome=genome,
                recipe=recipe,
                evaluation=outcome.evaluation,
                repeated=key in self._known,
                is_stopped=is_stopped,
            )
            self._n_evaluated += not candidate.repeated
            self._known.add(key)
            candidates.append(candidate)
            if index >= self._n_told:
                for tracker in trackers:
                    tracker.candidate(candidate)
            if not is_stopped and self.front.add(candidate, outcome.evaluation.fitness, outcome.evaluation.violation):
                self._best_generation = number
        with _one_thread():
            stage.optimizer.tell(genomes, told(heard))
        if number >= int(study.get(logged) or 0):
            for tracker in trackers:
                tracker.generation(Generation(number, count, candidates))
            study.set(logged, str(number + 1))
        self._n_idle = self._n_idle + 1 if all(candidate.repeated for candidate in candidates) else 0
        self._number += 1

    def _spent(self, budget: Budget) -> bool:
        return (
            (budget.evaluations is not None and self._n_evaluated >= budget.evaluations)
            or (budget.generations is not None and self._number >= budget.generations)
            or (budget.minutes is not None and self._run.study.seconds >= 60 * budget.minutes)
            or (budget.patience is not None and self._number - self._best_generation > budget.patience)
        )


def _one_thread() -> AbstractContextManager[Any]:
    """Linear algebra on one thread: several add up in another order, and a run would depend on how many there are."""
    return threadpool_limits(limits=1, user_api="blas")  # type: ignore[no-any-return]


def _n_told(proposals: Sequence[Proposal], *, is_raced: bool) -> int:
    """Number of the first candidate that the trackers have not heard of.

    Candidates are told of in order as they end, so that is the first that has not; those of a race end together.
    """
    first = next((proposal for proposal in proposals if not proposal.is_evaluated), None)
    if first is None:
        return len(proposals)
    if not is_raced:
        return first.number
    return next(p.number for p in proposals if (p.stage, p.generation) == (first.stage, first.generation))


def count_evaluated(study: Study, stage: str = "") -> int:
    """Candidates of a stage evaluated so far, as the budget counts them."""
    free = _free(study)
    evaluated = {(p.recipe, p.portion) for p in study.proposals() if p.stage == stage and p.is_evaluated}
    return sum(portion != "search" or digest not in free for digest, portion in evaluated)


def ranked_candidates(study: Study, limit: int, stages: Collection[str]) -> list[Candidate]:
    """The best evaluated candidates of some stages by search score, without failed and repeated ones.

    Among equals the earlier comes first, and who misses a constraint comes behind all who miss none. Of several objectives the
    first counts; ``front_candidates`` has those that none dominates.
    """
    first: dict[str, tuple[float, float, int]] = {}
    for proposal in study.proposals():
        if proposal.recipe in first or proposal.stage not in stages or (outcome := study.outcome(proposal)) is None:
            continue
        fitness, violation = outcome
        if math.isfinite(fitness[0]):
            first[proposal.recipe] = (violation, -float(fitness[0]), proposal.number)
    best_first = sorted(first.values(), key=lambda entry: entry[:2])
    return [_told(number, study) for *_, number in best_first[:limit]]


def front_candidates(study: Study, stages: Collection[str]) -> list[Candidate]:
    """The candidates of some stages that no other dominates, in the order of the search; one where there is one objective."""
    found: Front[int] = Front()
    for proposal in study.proposals():
        if proposal.stage in stages and (outcome := study.outcome(proposal)) is not None:
            found.add(proposal.number, *outcome)
    return [_told(number, study) for number in found.members]


def leaders(study: Study, stages: Collection[str]) -> list[Candidate]:
    """The best candidates of every generation of some stages, each recipe once, the last generation's first.

    Where each generation was asked other problems, scores of different generations say little about each other.
    """
    best: dict[tuple[str, int], Front[Proposal]] = {}
    for proposal in study.proposals():
        place = (proposal.stage, proposal.generation)
        if proposal.stage in stages and (outcome := study.outcome(proposal)) is not None:
            best.setdefault(place, Front()).add(proposal, *outcome)
    last_first = sorted((each for found in best.values() for each in found.members), key=lambda proposal: -proposal.number)
    found: dict[str, int] = {}
    for proposal in last_first:
        found.setdefault(proposal.recipe, proposal.number)
    return [_told(number, study) for number in found.values()]


def _told(number: int, study: Study) -> Candidate:
    stored = study.candidate(number)
    evaluation = study.evaluation(stored.recipe, stored.portion)
    assert evaluation is not None, "only evaluated candidates are told of"
    return Candidate(
        number=stored.number,
        stage=stored.stage,
        generation=stored.generation,
        round=stored.generation,
        genome=stored.genome,
        recipe=stored.recipe,
        evaluation=evaluation,
        repeated=False,
    )


def _free(study: Study) -> set[str]:
    """Recipes that cost no budget when a candidate has them: the sources' and the un-tuned merges'."""
    return {
        recipe_hash(entrant.recipe)
        for entrant in study.entrants()
        if entrant.role not in ("best", "front", "ablation", "stage")
    }
