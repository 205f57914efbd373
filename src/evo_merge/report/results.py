"""What a report needs of a run, read once from its study: complete or not, with nothing of it computed twice."""

import json
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genome
from evo_merge.recipe import DataFlowRecipe, Recipe, recipe_hash
from evo_merge.study import Study
from evo_merge.tasks.base import Example


@dataclass(frozen=True, slots=True)
class Model:
    """A model that was scored beside the search, or chosen by it; an evaluation is ``None`` where it was not made."""

    role: str
    name: str
    recipe: Recipe
    search: Evaluation | None
    test: Evaluation | None


@dataclass(frozen=True, slots=True)
class SearchedCandidate:
    """A candidate without its completions, of which a long search has too many to hold.

    Attributes:
        stage: Which search of the run it belongs to; empty where there was only one.
        portion: Key of what it was asked.
        n_asked: Problems it was asked; 0 where it failed or is not evaluated yet.
        score: Mean of the first objective on what it was asked; ``None`` where it failed or is not evaluated yet.
        repeated: Its recipe had been evaluated before, so that it cost nothing.
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
    merge_seconds: float
    evaluation_seconds: float
    new_tokens: int

    @property
    def is_of_batch(self) -> bool:
        """Whether it was asked some of the problems, drawn for its generation, so that its score is like no other's."""
        return ":" in self.portion

    @property
    def has_own_task(self) -> bool:
        """Whether its stage has a task of its own, so that its score says nothing beside those of other stages."""
        return "/" in self.portion


@dataclass(frozen=True, slots=True)
class RunResults:
    """A run as its study tells it.

    Attributes:
        objectives: Names of the fitness columns; tables and figures are about the first.
        stage: Which search of the run the chosen candidate comes from; empty where there was only one.
        genes: Of that stage.
        best_number: The chosen candidate, or the best one so far where the run has not chosen yet.
        test_examples: In the order of the rows of every test evaluation; empty where the test split was never asked.
        written: Of how many test problems the written checkpoint was asked, and to how many it gave the scored candidate's
            answer; ``None`` where it was not asked.
        n_choices: Different merges that the run, resumed with a larger budget, chose and scored on the test split.
    """

    task: str
    merge: str
    optimizer: str
    seed: int | None
    selection: str
    objectives: tuple[str, ...]
    version: str
    seconds: float
    stage: str
    genes: tuple[Gene, ...]
    models: tuple[Model, ...]
    candidates: tuple[SearchedCandidate, ...]
    best_number: int | None
    n_search: int
    test_examples: tuple[Example, ...]
    written: tuple[int, int] | None
    n_choices: int

    @property
    def objective(self) -> str:
        """What tables and figures are about."""
        return self.objectives[0]

    @property
    def evaluations(self) -> int:
        """Candidates that were evaluated, failed ones included, repeats not: what a budget counts."""
        return sum((c.score is not None or c.failure is not None) and not c.repeated for c in self.candidates)

    @property
    def failed(self) -> tuple[SearchedCandidate, ...]:
        """Candidates that could not be built or scored."""
        return tuple(c for c in self.candidates if c.failure is not None)

    @property
    def n_generations(self) -> int:
        """Rounds of ask and tell over all stages, the last perhaps incomplete."""
        return len({(c.stage, c.generation) for c in self.candidates})

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the searches of the run, in the order they began; empty where there was only one, which has none."""
        return tuple(dict.fromkeys(c.stage for c in self.candidates if c.stage))

    @property
    def of_stage(self) -> tuple[SearchedCandidate, ...]:
        """Candidates of the chosen candidate's stage: those whose genomes have the genes."""
        return tuple(c for c in self.candidates if c.stage == self.stage)

    @property
    def has_batches(self) -> bool:
        """Whether each generation was asked other problems."""
        return any(c.is_of_batch for c in self.candidates)

    @property
    def path(self) -> DataFlowRecipe | None:
        """The chosen recipe, or that of the best candidate so far, where it is a path through layers."""
        return self.recipe if isinstance(self.recipe, DataFlowRecipe) else None

    @property
    def recipe(self) -> Recipe | None:
        """The chosen recipe, or that of the best candidate so far."""
        chosen = self.best or self.best_candidate
        return None if chosen is None else chosen.recipe

    @property
    def best(self) -> Model | None:
        """The chosen model, or ``None`` where the run has not chosen yet."""
        return next(iter(self.of_role("best")), None)

    @property
    def best_candidate(self) -> SearchedCandidate | None:
        """The chosen candidate, or the best one so far."""
        return next((c for c in self.candidates if c.number == self.best_number), None)

    @property
    def is_tested(self) -> bool:
        """Whether the run came to its end: a model was chosen and scored on the test split."""
        return self.best is not None and scores(self.best.test, self.objective) is not None

    def of_role(self, role: str) -> tuple[Model, ...]:
        """The models of a role, in the order they were recorded."""
        return tuple(model for model in self.models if model.role == role)


def read_results(study: Study) -> RunResults:
    """Read a run from its study, finished or not."""
    entrants = study.entrants()
    models = tuple(
        Model(e.role, e.name, e.recipe, study.evaluation(e.recipe, "search"), study.evaluation(e.recipe, "test"))
        for e in entrants
    )
    known = {(recipe_hash(e.recipe), "search") for e in entrants if e.role not in ("best", "ablation", "stage")}
    candidates = _candidates(study, known)
    chosen = study.get("best_number")
    leader = _leader(candidates)
    seed = study.get("seed")
    best_number = int(chosen) if chosen is not None else None if leader is None else leader.number
    stage = next((c.stage for c in candidates if c.number == best_number), candidates[0].stage if candidates else "")
    dim = next((len(c.genome) for c in candidates if c.stage == stage), 0)
    written = json.loads(study.get("written_compared") or "null")
    return RunResults(
        task=study.get("task") or "an unnamed task",
        merge=study.get("merge") or "an unnamed merge",
        optimizer=study.get("optimizer") or "an unnamed optimizer",
        seed=None if seed is None else int(seed),
        selection=study.get("selection") or "search",
        objectives=_objectives(study, models),
        version=study.get("evo_merge_version") or "",
        seconds=study.seconds,
        stage=stage,
        genes=_genes(study, stage, dim),
        models=models,
        candidates=tuple(candidates),
        best_number=best_number,
        n_search=len(study.examples("search")),
        test_examples=tuple(study.examples("test")),
        written=None if written is None else (written["of"], written["same"]),
        n_choices=len(json.loads(study.get("choices") or "[]")),
    )


def scores(evaluation: Evaluation | None, objective: str) -> NDArray[np.float64] | None:
    """``(n_examples,)``, or ``None`` where the model was not evaluated, or failed, or had nothing to answer."""
    if evaluation is None or evaluation.failure is not None or not len(evaluation.scores):
        return None
    return evaluation.column(objective)


def mean_score(evaluation: Evaluation | None, objective: str) -> float | None:
    """The mean of ``scores``, or ``None`` like it."""
    column = scores(evaluation, objective)
    return None if column is None else float(column.mean())


def _candidates(study: Study, known: set[tuple[str, str]]) -> list[SearchedCandidate]:
    seen = set(known)
    candidates = []
    for stored in study.candidates():
        evaluation = study.evaluation(stored.recipe, stored.portion)
        digest = (recipe_hash(stored.recipe), stored.portion)
        answered = evaluation is not None and evaluation.failure is None and len(evaluation.scores) > 0
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
                merge_seconds=0.0 if evaluation is None else evaluation.merge_seconds,
                evaluation_seconds=0.0 if evaluation is None else evaluation.evaluation_seconds,
                new_tokens=0 if evaluation is None else evaluation.new_tokens,
            )
        )
        seen.add(digest)
    return candidates


def _leader(candidates: list[SearchedCandidate]) -> SearchedCandidate | None:
    """The best so far by the run's task; where generations were asked different problems, of the last one."""
    scored = [c for c in candidates if c.score is not None]
    scored = [c for c in scored if not c.has_own_task] or scored
    if any(c.is_of_batch for c in scored):
        scored = [c for c in scored if c.portion == scored[-1].portion]
    return max(scored, key=lambda c: (c.score or 0.0, -c.number), default=None)


def _objectives(study: Study, models: tuple[Model, ...]) -> tuple[str, ...]:
    stored = study.get("objectives")
    if stored is not None:
        return tuple(json.loads(stored))
    evaluations = [e for model in models for e in (model.search, model.test) if e is not None]
    return evaluations[0].metrics[: evaluations[0].n_objectives] if evaluations else ("score",)


def _genes(study: Study, stage: str, dim: int) -> tuple[Gene, ...]:
    stored = json.loads(study.get("stages") or "{}").get(stage)
    if stored is None:
        return tuple(Gene(f"gene {i}", -math.inf, math.inf, 0.0) for i in range(dim))
    return tuple(
        Gene(
            name=record["name"],
            low=-math.inf if record["low"] is None else float(record["low"]),
            high=math.inf if record["high"] is None else float(record["high"]),
            start=float(record["start"]),
            kind=record.get("kind", "real"),
            span=float(record.get("span", 1.0)),
        )
        for record in stored
    )
