"""What is open while a run lasts, and what its searches are given of it."""

import logging
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from evo_merge.aimed import Aimed
from evo_merge.choose import choose
from evo_merge.compose import Parts
from evo_merge.detectable import Detectable, after_scoring, before_scoring
from evo_merge.evaluation.evaluator import Evaluator
from evo_merge.evaluation.pieced import Pieced
from evo_merge.evaluation.setup import new_evaluator
from evo_merge.models.assemble import Assembler
from evo_merge.objectives import has_chance
from evo_merge.population import Neighbours
from evo_merge.program import Conditions
from evo_merge.recipe import recipe_hash
from evo_merge.recorded import Recorded
from evo_merge.reuse import Memories
from evo_merge.search import Run
from evo_merge.study import Study
from evo_merge.tasks.base import Portion, Task, digest_of
from evo_merge.trackers.base import Candidate, SearchStart, Tracker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """What is open while a run lasts.

    Attributes:
        config: The composed one.
        parts: What it names.
        scorer: Asks the models; it holds the one that is assembled in place.
        study: The run's memory.
        folder: Of the run.
        trackers: Who hears of every candidate.
        earlier: Studies whose answers are not asked for again.
        stop: Set when the user asks to stop.
    """

    config: DictConfig
    parts: Parts
    scorer: Evaluator
    study: Study
    folder: Path
    trackers: Sequence[Tracker]
    earlier: Sequence[Study]
    stop: threading.Event = field(default_factory=threading.Event)

    def evaluator(self) -> Recorded:
        """Scores recipes on the run's task."""
        sources = {entrant.name: entrant.recipe for entrant in self.parts.entrants if entrant.role == "source"}
        pieced = Pieced(self.scorer, Memories(self.study, self.earlier, self.parts.task))
        return Recorded(Aimed(pieced, self.parts.aim, sources, self.study.evaluation), self.study, self.stop.is_set)

    def evaluator_of(self, stage: str, task: Task) -> Recorded:
        """Scores recipes on a stage's own task."""
        examples = task.examples("search")
        self.study.record_examples(Portion("search", stage=stage).key, examples, digest_of(task, "search"))
        assembler = cast(Assembler, self.scorer.assembler)  # one for all tasks, so that nothing is resident twice
        scorer = new_evaluator(assembler, task, self.parts.generator, self.parts.trainer, ["search"], ())
        scorer.use_drafts(Neighbours(self.study))
        return Recorded(Pieced(scorer, Memories(self.study, self.earlier, task)), self.study, self.stop.is_set)


def conditions(session: Session, evaluator: Recorded) -> Conditions:
    """What the searches have in common, after scoring the sources and un-tuned merges."""
    parts, study = session.parts, session.study
    baselines = _score_entrants(session, evaluator)
    detectable = _detectable(parts, study)
    if detectable.is_great:
        log.warning("%s; for more, give more test problems (task.limit.test or task.files.test)", detectable.sentence)
    begin = partial(
        SearchStart,
        run_folder=session.folder,
        config=cast(dict[str, Any], OmegaConf.to_container(session.config, resolve=True)),
        baselines=baselines,
        evidence=detectable.sentence,
    )

    def best_of(stages: Collection[str]) -> Candidate | None:
        found = choose(parts, study, evaluator, stages)
        return None if found is None else found.best

    return Conditions(
        run=Run(study, session.trackers, begin),
        evaluator=evaluator,
        evaluator_of=session.evaluator_of,
        portion=parts.portion(partial(_columns_beside, parts, study)),
        objectives=parts.aim.fitness_names,
        budget=parts.budget,
        choose=best_of,
        race=parts.race,
    )


def _columns_beside(parts: Parts, study: Study) -> NDArray[np.float64]:
    """What the sources and un-tuned merges scored on each search problem, by the first objective."""
    evaluations = (study.evaluation(entrant.recipe, "search") for entrant in parts.entrants)
    scored = [each for each in evaluations if each is not None and len(each.scores)]
    return np.stack([each.scores[:, each.metrics.index(parts.aim.objectives[0])] for each in scored])


def _score_entrants(session: Session, evaluator: Recorded) -> dict[str, float]:
    """Score the sources and un-tuned merges on the search split, and return their fitness by name."""
    scores = {}
    for entrant in session.parts.entrants:
        session.study.record_entrant(entrant)
        if not session.study.is_evaluated(entrant.recipe, "search"):
            tell(session.trackers, f"scoring {entrant.name}")
        evaluation = evaluator.evaluate(entrant.recipe, Portion("search"))
        scores[entrant.name] = float(evaluation.fitness[0])
    return scores


def _detectable(parts: Parts, study: Study) -> Detectable:
    """What the test split will be able to show of the first objective that chance has a part in."""
    n_test, n_rivals = len(parts.task.examples("test")), len(parts.entrants)
    name = next(filter(has_chance, parts.aim.objectives), None)
    if name is None:
        return Detectable("", is_great=False)
    by_recipe = study.columns("search", name)
    digests = {entrant.name: recipe_hash(entrant.recipe) for entrant in parts.entrants}
    columns = {entrant: by_recipe[digest] for entrant, digest in digests.items() if digest in by_recipe}
    asked = max((len(column) for column in columns.values()), default=0) / max(1, len(parts.task.examples("search")))
    found = after_scoring(columns, round(n_test * asked), n_rivals)  # an objective may be about some of the problems
    if found is None:
        return Detectable(before_scoring(n_test, n_rivals), is_great=False)
    return found if len(parts.aim.objectives) == 1 else replace(found, sentence=f"{name}: {found.sentence}")


def tell(trackers: Sequence[Tracker], text: str) -> None:
    """Say what comes next."""
    log.info("%s", text)
    for tracker in trackers:
        tracker.stage(text)
