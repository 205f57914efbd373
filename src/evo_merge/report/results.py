"""What a report needs of a run, read once from its study: complete or not, with nothing of it computed twice."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene
from evo_merge.mergeability import Mergeability
from evo_merge.objectives import has_chance
from evo_merge.recipe import DataFlowRecipe, Recipe, recipe_hash
from evo_merge.report.answers.why import wanted_languages
from evo_merge.report.archive import Archive, read_archive
from evo_merge.report.constraints import Constraint, nearest_finalist, read_constraints
from evo_merge.report.hypervolumes import Hypervolumes, of_candidates
from evo_merge.report.optimizer_name import optimizer_name
from evo_merge.report.searched import SearchedCandidate, knee_of, leaders, read_candidates
from evo_merge.report.selected import Selected, read_selected
from evo_merge.study import Study
from evo_merge.tasks.base import Example

_FOUND = ("best", "front", "ablation", "stage")  # roles of what the search found
_FRONT_NAME = "candidate "  # before the number, in the name of a member of the front


@dataclass(frozen=True, slots=True)
class Model:
    """A model that was scored beside the search, or chosen by it; an evaluation is ``None`` where it was not made.

    ``number`` is that of the candidate where it is another member of the front.
    """

    role: str
    name: str
    recipe: Recipe
    search: Evaluation | None
    test: Evaluation | None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class RunResults:
    """A run as its study tells it.

    Attributes:
        objectives: Names of what is maximised; ``views.py`` shows the run as each of them sees it.
        fitness_names: What the optimizer was told: the objectives, or the one number that the run makes of them.
        scalarization: Options of what makes that number; ``None`` where objectives stay what they are.
        constraints: What the run was to keep to, and whether the chosen candidate, or the best one so far, does.
        stage: Which search of the run the chosen candidate comes from; empty where there was only one.
        genes: Of that stage.
        best_number: The chosen candidate, or the best one so far where the run has not chosen yet; see ``none_keeps``.
        test_examples: In the order of the rows of every test evaluation; empty where the test split was never asked.
        written: Of how many test problems the written checkpoint was asked, and to how many it gave the scored candidate's
            answer; ``None`` where it was not asked.
        n_choices: Different merges that the run, resumed with a larger budget, chose and scored on the test split.
        hypervolumes: Of the fronts so far; ``None`` where one number decides, or generations were asked different problems.
        archive: What the search of the stage kept beside the chosen candidate, where its optimizer keeps an archive.
        nearest_finalist: Where a validation split chooses and every finalist misses a constraint on it, who misses least.
        mergeability: What was measured of the pool before the search, where weights are mixed.
        selected: The score that the chosen candidate, or the best one so far, was chosen by, corrected for that; only where
            there is one objective.
        languages: That answers had to be in, by the part of the task; empty where any will do.
    """

    task: str
    merge: str
    optimizer: str
    seed: int | None
    selection: str
    objectives: tuple[str, ...]
    fitness_names: tuple[str, ...]
    scalarization: Mapping[str, Any] | None
    constraints: tuple[Constraint, ...]
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
    hypervolumes: Hypervolumes | None
    archive: Archive | None = None
    nearest_finalist: int | None = None
    mergeability: Mergeability | None = None
    selected: Selected | None = None
    languages: Mapping[str, str] = field(default_factory=dict)

    @property
    def objective(self) -> str:
        """What tables and figures are about: the first where there are several."""
        return self.objectives[0]

    @property
    def has_front(self) -> bool:
        """Whether the optimizer was told several numbers, so that the run ends in a Pareto front."""
        return len(self.fitness_names) > 1

    @property
    def is_scalarized(self) -> bool:
        """Whether the search was about one number made of the objectives."""
        return self.fitness_names != self.objectives

    @property
    def front(self) -> tuple[SearchedCandidate, ...]:
        """Members of the Pareto front, as chosen or as it is so far, in the order of the search; of one objective the best."""
        if self.best is None:
            return tuple(leaders(self.candidates))
        numbers = {self.best_number, *(model.number for model in self.of_role("front"))}
        return tuple(c for c in self.candidates if c.number in numbers)

    @property
    def comparable(self) -> tuple[SearchedCandidate, ...]:
        """Candidates with a score that were asked the same problems of the run's own task."""
        return tuple(c for c in self.candidates if c.score is not None and not c.is_of_batch and not c.has_own_task)

    @property
    def evaluations(self) -> int:
        """Candidates that were evaluated, failed ones included, repeats not: what a budget counts."""
        known = (c for c in self.candidates if c.score is not None or c.failure is not None or c.is_stopped)
        return sum(not c.repeated for c in known)

    @property
    def stopped(self) -> tuple[SearchedCandidate, ...]:
        """Candidates that a race stopped."""
        return tuple(c for c in self.candidates if c.is_stopped)

    @property
    def n_spared(self) -> int:
        """Answers that were not asked for because candidates were stopped."""
        whole = {c.portion: c.n_asked for c in self.candidates if c.score is not None}
        return sum(whole[c.portion] - c.n_asked for c in self.stopped if c.portion in whole and not c.repeated)

    @property
    def failed(self) -> tuple[SearchedCandidate, ...]:
        """Candidates that could not be built or scored."""
        return tuple(c for c in self.candidates if c.failure is not None)

    @property
    def none_keeps(self) -> bool:
        """Whether nothing was chosen and every score so far misses a constraint: the best is then only the nearest."""
        lead = self.best_candidate
        return self.best is None and lead is not None and lead.violation > 0

    @property
    def n_missed(self) -> int:
        """Candidates that miss a constraint, repeats not counted."""
        return sum(c.violation > 0 and not c.repeated for c in self.candidates)

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
    subset = _subset(study)
    models = tuple(
        Model(
            e.role,
            e.name,
            e.recipe,
            _of_subset(study.evaluation(e.recipe, "search"), subset),
            study.evaluation(e.recipe, "test"),
            int(e.name.removeprefix(_FRONT_NAME)) if e.role == "front" else None,
        )
        for e in entrants
    )
    known = {(recipe_hash(e.recipe), "search") for e in entrants if e.role not in _FOUND}
    candidates = read_candidates(study, known)
    chosen = study.get("best_number")
    leader = knee_of(candidates)
    seed = study.get("seed")
    best_number = int(chosen) if chosen is not None else None if leader is None else leader.number
    objectives = _objectives(study, models)
    fitness_names = tuple(json.loads(study.get("fitness") or "null") or objectives)
    recipe = next((m.recipe for m in models if m.role == "best"), None if leader is None else leader.recipe)
    stage = next((c.stage for c in candidates if c.number == best_number), candidates[0].stage if candidates else "")
    dim = next((len(c.genome) for c in candidates if c.stage == stage), 0)
    selection = study.get("selection") or "search"
    chooses_later = chosen is None and selection == "validation"
    written = json.loads(study.get("written_compared") or "null")
    measured = study.get("mergeability")
    lead = next((c for c in candidates if c.number == best_number), None)
    is_plain = fitness_names == objectives and len(objectives) == 1 and has_chance(objectives[0])
    return RunResults(
        task=study.get("task") or "an unnamed task",
        merge=study.get("merge") or "an unnamed merge",
        optimizer=optimizer_name(study),
        seed=None if seed is None else int(seed),
        selection=selection,
        objectives=objectives,
        fitness_names=fitness_names,
        languages=wanted_languages(study.get("config")),
        scalarization=_scalarization(study) if fitness_names != objectives else None,
        constraints=read_constraints(study, recipe),
        version=study.get("evo_merge_version") or "",
        seconds=study.seconds,
        stage=stage,
        genes=_genes(study, stage, dim),
        models=models,
        candidates=tuple(candidates),
        best_number=best_number,
        n_search=len(study.examples("search") if subset is None else subset),
        test_examples=tuple(study.examples("test")),
        written=None if written is None else (written["of"], written["same"]),
        n_choices=len(json.loads(study.get("choices") or "[]")),
        hypervolumes=of_candidates(candidates, _before(models)) if len(fitness_names) > 1 else None,
        nearest_finalist=nearest_finalist(study, {c.number: c.recipe for c in candidates}) if chooses_later else None,
        archive=read_archive(study, stage, fitness_names),
        mergeability=None if measured is None else Mergeability.from_json(measured),
        selected=read_selected(study, "search" if chooses_later else selection, objectives[0], candidates, lead)
        if is_plain
        else None,
    )


def _subset(study: Study) -> tuple[int, ...] | None:
    """Places of the search problems that all candidates were asked, where those are a part of the split."""
    asked = {c.portion: c for c in study.candidates() if "/" not in c.portion}
    if len(asked) != 1 or ":" not in next(iter(asked)):
        return None
    candidates = (c for c in study.candidates() if c.portion in asked)
    found = (study.evaluation(c.recipe, c.portion) for c in candidates)
    return next((e.positions for e in found if e is not None and e.positions is not None), None)


def _of_subset(evaluation: Evaluation | None, subset: tuple[int, ...] | None) -> Evaluation | None:
    """What a model beside the search scored on the candidates' problems; one number of several objectives stays that of all."""
    if evaluation is None or evaluation.failure is not None or subset is None or evaluation.scalar is not None:
        return evaluation
    completions = tuple(evaluation.completions[place] for place in subset)
    return replace(evaluation, scores=evaluation.scores[list(subset)], completions=completions, positions=subset)


def scores(evaluation: Evaluation | None, objective: str) -> NDArray[np.float64] | None:
    """``(n_examples,)``, or ``None`` where the model was not evaluated, or failed, or had nothing to answer."""
    if evaluation is None or evaluation.failure is not None or not len(evaluation.scores):
        return None
    return evaluation.column(objective)


def mean_score(evaluation: Evaluation | None, objective: str) -> float | None:
    """The mean of ``scores``, or ``None`` like it."""
    column = scores(evaluation, objective)
    return None if column is None else float(column.mean())


def search_score(evaluation: Evaluation | None) -> float | None:
    """First number of the fitness, as candidates have it, or ``None`` as for ``scores``."""
    if evaluation is None or evaluation.failure is not None or not len(evaluation.scores):
        return None
    return float(evaluation.fitness[0])


def _before(models: Sequence[Model]) -> list[tuple[float, ...]]:
    """Search scores of what was there before the search and keeps to the constraints."""
    beside = [model.search for model in models if model.role in ("source", "unoptimised", "baseline")]
    return [tuple(e.objectives.tolist()) for e in beside if e is not None and e.failure is None and e.violation == 0]


def _scalarization(study: Study) -> Mapping[str, Any]:
    """Options of ``scalarize=`` as the run was composed."""
    config = yaml.safe_load(study.get("config") or "") or {}
    return {key: value for key, value in (config.get("scalarize") or {}).items() if key != "_target_"}


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
