"""The candidates of a run, and which of them lead."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evo_merge.evaluation.cost import NOTHING, Cost
from evo_merge.genome import Genome
from evo_merge.pareto import front, knee
from evo_merge.recipe import Recipe, recipe_hash
from evo_merge.study import Study


@dataclass(frozen=True, slots=True)
class SearchedCandidate:
    """A candidate without its completions, of which a long search has too many to hold.

    Attributes:
        stage: Which search of the run it belongs to; empty where there was only one.
        portion: Key of what it was to be asked, and was where no race stopped it.
        n_asked: Problems it was asked; 0 where it failed or is not evaluated yet.
        score: First number of its fitness on the portion; ``None`` where it failed, was stopped, or is not evaluated yet.
        repeated: Its recipe had been evaluated before, so that it cost nothing.
        fitness: What the optimizer was told of it; empty where there is no score.
        violation: By how much it misses the run's constraints.
        is_stopped: Whether a race stopped it.
        is_of_batch: Whether its generation was asked problems of its own, so that its score is like no other's.
        cost: What its evaluation took, which was paid by the first candidate with its recipe.
    """

    number: int
    stage: str
    generation: int
    genome: Genome
    recipe: Recipe
    portion: str
    n_asked: int
    score: float | None
    failure: str | None
    repeated: bool
    fitness: tuple[float, ...] = ()
    violation: float = 0.0
    is_stopped: bool = False
    is_of_batch: bool = False
    cost: Cost = NOTHING

    @property
    def has_own_task(self) -> bool:
        """Whether its stage has a task of its own, so that its score says nothing beside those of other stages."""
        return "/" in self.portion


def read_candidates(study: Study, known: set[tuple[str, str]]) -> list[SearchedCandidate]:
    """All candidates of a run; ``known`` are hashes of recipes, and portions, that cost nothing."""
    seen = set(known)
    candidates = []
    everyone = study.candidates()
    batches = {stored.portion for stored in everyone if ":" in stored.portion}
    for stored in everyone:
        evaluation = study.evaluation(stored.recipe, stored.asked)
        digest = (recipe_hash(stored.recipe), stored.portion)
        works = evaluation is not None and evaluation.failure is None
        answered = evaluation is not None and works and not stored.is_stopped and bool(np.isfinite(evaluation.fitness).all())
        candidates.append(
            SearchedCandidate(
                number=stored.number,
                stage=stored.stage,
                generation=stored.generation,
                genome=stored.genome,
                recipe=stored.recipe,
                portion=stored.portion,
                n_asked=0 if evaluation is None else len(evaluation.scores),
                score=float(evaluation.fitness[0]) if evaluation is not None and answered else None,
                failure=None if evaluation is None else evaluation.failure,
                repeated=digest in seen,
                fitness=tuple(evaluation.fitness.tolist()) if evaluation is not None and answered else (),
                violation=0.0 if evaluation is None else evaluation.violation,
                is_stopped=works and stored.is_stopped,
                is_of_batch=len(batches) > 1 and stored.portion in batches,
                cost=NOTHING if evaluation is None else evaluation.cost,
            )
        )
        seen.add(digest)
    return candidates


def knee_of(candidates: Sequence[SearchedCandidate]) -> SearchedCandidate | None:
    """The best so far, or the knee of the front so far."""
    found = leaders(candidates)
    if not found:
        return None
    everyone = np.asarray([c.fitness for c in candidates if len(c.fitness) == len(found[0].fitness)])
    return found[knee(np.asarray([c.fitness for c in found]), everyone)]


def leaders(candidates: Sequence[SearchedCandidate]) -> list[SearchedCandidate]:
    """The best so far by the run's task, or the front; where generations were asked different problems, of the last one."""
    scored = [c for c in candidates if c.score is not None]
    scored = [c for c in scored if not c.has_own_task] or scored
    if any(c.is_of_batch for c in scored):
        scored = [c for c in scored if c.portion == scored[-1].portion]
    scored = [c for c in scored if len(c.fitness) == len(scored[-1].fitness)]  # a stage's own task may have fewer objectives
    if not scored:
        return []
    return [scored[i] for i in front(np.asarray([c.fitness for c in scored]), np.asarray([c.violation for c in scored]))]
