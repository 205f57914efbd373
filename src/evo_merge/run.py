"""One run, from a composed config to a merged model and its evidence.

The stages: score the sources and the un-tuned merges, search, choose, score once on the test split, write. Each looks into the
study first, so that a resumed run passes through what is done and goes on where it stopped.
"""

import json
import logging
import shutil
import signal
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from evo_merge import __version__
from evo_merge.baselines import entrants
from evo_merge.config import RunSettings
from evo_merge.errors import ConfigError, Interrupted
from evo_merge.evaluation.evaluator import Evaluator
from evo_merge.evaluation.generator import Generator
from evo_merge.evaluation.setup import few_threads, new_evaluator, new_trainer
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.merging import check_recipe
from evo_merge.models.pool import Pool
from evo_merge.optimizers.base import Optimizer
from evo_merge.plan import Needs, describe_plan, needs_of, refuse_shortage
from evo_merge.recipe import Recipe, to_yaml
from evo_merge.report.model_card import model_card
from evo_merge.report.write import replace_text, write_report
from evo_merge.search import Budget, Recorded, count_evaluated, ranked_candidates, search
from evo_merge.seeds import child_seed
from evo_merge.spaces.base import Ingredients, MergeSpace
from evo_merge.study import Entrant, Study, opened
from evo_merge.tasks.base import SPLITS, Split, Task
from evo_merge.trackers.base import SearchStart, Tracker
from evo_merge.trackers.progress import Progress

log = logging.getLogger(__name__)
_RUN_ID = "run_id"  # what trackers call the run; the same for all its parts
N_FINALISTS = 10  # re-scored on the validation split where that chooses


@dataclass(frozen=True)
class Parts:
    """What a config composes: everything that a run and its plan need, before any weight is read."""

    settings: RunSettings
    budget: Budget
    task: Task
    pool: Pool
    ingredients: Ingredients
    space: MergeSpace
    optimizer: Optimizer
    generator: Generator
    trainer: Any

    @property
    def allowed_code(self) -> tuple[str, ...]:
        """Dotted names of methods from elsewhere that may run: those that the user allowed, and the config's own."""
        return (*self.settings.allow_code, self.start.method)

    @property
    def start(self) -> Recipe:
        """The un-optimised merge: every gene at its start."""
        return self.space.decode(np.asarray([gene.start for gene in self.space.genes], dtype=np.float64))

    @property
    def needs(self) -> Needs:
        """What the run takes of the machine."""
        return needs_of(self.pool, self.task, self.generator.batch_size, self.trainer.strategy.root_device)


def compose_parts(config: DictConfig, settings: RunSettings) -> Parts:
    """Build the parts of a run and check that they fit each other.

    Raises:
        EvoMergeError: Something the user can mend; no weight has been read.
    """
    task: Task = instantiate(config.task, _convert_="all")
    for split in _needed_splits(settings):
        if not task.examples(split):
            raise ConfigError(
                f"task '{task.name}' has no examples for the '{split}' split; name them with task.files.{split}=FILE"
            )
    pool: Pool = instantiate(config.models, _convert_="all")
    tensors = tuple(pool.leader.shapes)
    ingredients = Ingredients(None if pool.base is None else pool.base.reference, pool.recipe_sources, tensors, pool.out_dtype)
    space: MergeSpace = instantiate(config.merge, ingredients, child_seed(settings.seed, "merge"), _convert_="all")
    optimizer: Optimizer = instantiate(config.optimizer, space.genes, child_seed(settings.seed, "optimizer"), _convert_="all")
    generator: Generator = instantiate(config.generator, _convert_="all")
    budget, trainer = Budget(**asdict(settings.budget)), new_trainer(config)
    parts = Parts(settings, budget, task, pool, ingredients, space, optimizer, generator, trainer)
    check_recipe(parts.start, parts.allowed_code)
    return parts


def plan(config: DictConfig, settings: RunSettings, folder: Path) -> str:
    """What a run would need, as text; raises ``ConfigError`` where it does not fit this machine."""
    parts = compose_parts(config, settings)
    refuse_shortage(parts.needs, folder)
    batch_size = parts.generator.batch_size
    return describe_plan(parts.space.genes, parts.pool, parts.task, parts.budget, batch_size, parts.needs, folder)


def start(config: DictConfig, settings: RunSettings, names: dict[str, str], folder: Path) -> None:
    """Begin a new run in a folder; ``names`` are the chosen merge, optimizer and task."""
    parts = compose_parts(config, settings)
    refuse_shortage(parts.needs, folder)
    run_id = uuid.uuid4().hex[:8]
    trackers = _trackers(config, run_id, folder)
    with _closing(trackers), few_threads(parts.pool):
        scorer = _scorer(parts, trackers)  # before there is a study: what cannot be read or asked leaves none behind
        with opened(Study.create(folder)) as study:
            study.set("config", OmegaConf.to_yaml(config, resolve=True))
            study.set("names", json.dumps(names))
            study.set(_RUN_ID, run_id)
            _run(config, parts, scorer, study, folder, trackers)


def resume(config: DictConfig, settings: RunSettings, folder: Path) -> None:
    """Continue a run; the config is the stored one with what may be changed."""
    with opened(Study.resume(folder)) as study:
        parts = compose_parts(config, settings)
        refuse_shortage(parts.needs, folder)
        trackers = _trackers(config, study.get(_RUN_ID) or "", folder)
        with _closing(trackers), few_threads(parts.pool):
            _run(config, parts, _scorer(parts, trackers), study, folder, trackers)


def _scorer(parts: Parts, trackers: Sequence[Tracker]) -> Evaluator:
    _tell(trackers, "reading the models")
    splits = _needed_splits(parts.settings)
    return new_evaluator(parts.pool, parts.task, parts.generator, parts.trainer, splits, parts.allowed_code)


def _run(config: DictConfig, parts: Parts, scorer: Evaluator, study: Study, folder: Path, trackers: Sequence[Tracker]) -> None:
    _describe(study, parts)
    with _stop_on_interrupt(folder) as stop:
        evaluator = Recorded(scorer, study, stop.is_set)
        baselines = _score_entrants(parts, study, evaluator, trackers)
        known = ranked_candidates(study, limit=1)
        begin = SearchStart(
            run_folder=folder,
            config=OmegaConf.to_container(config, resolve=True),  # type: ignore[arg-type]  # a config is a mapping
            genes=parts.space.genes,
            objectives=parts.task.objectives,
            baselines=baselines,
            evaluations=parts.budget.evaluations,
            evaluated=count_evaluated(study),
            seconds=study.seconds,
            best=known[0] if known else None,
        )
        for tracker in trackers:
            tracker.start(begin)
        search(parts.space, parts.optimizer, evaluator, study, trackers, parts.budget)
        best = _choose(parts, study, evaluator, trackers)
        _tell(trackers, "scoring the test split")
        for entrant in study.entrants():
            evaluator.evaluate(entrant.recipe, "test")
        _tell(trackers, "writing the model and the report")
        files = _write(parts, study, folder, best)
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        for tracker in trackers:
            tracker.finish(summary, files)


def _describe(study: Study, parts: Parts) -> None:
    """Keep what the report says about the run, and the examples that its scores are about."""
    names = json.loads(study.get("names") or "{}")
    described = {
        "genes": json.dumps([asdict(gene) for gene in parts.space.genes]),
        "objectives": json.dumps(parts.task.objectives),
        "selection": parts.settings.selection,
        "seed": str(parts.settings.seed),
        "evo_merge_version": __version__,
        **names,
    }
    for key, value in described.items():
        study.set(key, value)
    study.record_fingerprints({str(model.reference): model.fingerprint for model in parts.pool.models})
    for split in _needed_splits(parts.settings):
        study.record_examples(split, parts.task.examples(split))


def _score_entrants(parts: Parts, study: Study, evaluator: Recorded, trackers: Sequence[Tracker]) -> dict[str, float]:
    """Score the sources and un-tuned merges on the search split, and return their fitness by name."""
    scores = {}
    for entrant in entrants(parts.space, parts.ingredients, child_seed(parts.settings.seed, "merge")):
        study.record_entrant(entrant)
        if not study.is_evaluated(entrant.recipe, "search"):
            _tell(trackers, f"scoring {entrant.name}")
        evaluation, _ = evaluator.evaluate(entrant.recipe, "search")
        scores[entrant.name] = float(evaluation.fitness[0])
    return scores


def _choose(parts: Parts, study: Study, evaluator: Recorded, trackers: Sequence[Tracker]) -> Recipe:
    """The best candidate, kept as an entrant: by search score, or the best ten once more by validation score."""
    ranked = ranked_candidates(study, limit=N_FINALISTS)
    if not ranked:
        raise ConfigError(
            "no candidate could be built and scored, so there is nothing to choose; the reasons are in evo_merge.log"
        )
    recipes = {candidate.number: candidate.recipe for candidate in study.candidates()}
    best = ranked[0]
    if parts.settings.selection == "validation":
        _tell(trackers, "scoring the finalists on the validation split")
        scores = [float(evaluator.evaluate(recipes[c.number], "validation")[0].fitness[0]) for c in ranked]
        best = ranked[scores.index(max(scores))]
    study.record_choice(best.number)
    if best.evaluation.fitness[0] <= 0:
        log.warning(
            "no candidate scored above 0 on the search split; look at the answers in the report before you trust the merge"
        )
    study.drop_entrant("best")
    study.record_entrant(Entrant("best", "evolved", recipes[best.number]))
    return recipes[best.number]


def _write(parts: Parts, study: Study, folder: Path, best: Recipe) -> list[Path]:
    recipe = replace_text(folder / "recipe.yaml", to_yaml(best))
    reports = write_report(folder, study)
    model = folder / "model"
    shutil.rmtree(model, ignore_errors=True)  # of a resumed run that chose again
    write_checkpoint(best, parts.pool, model, allowed_code=parts.allowed_code)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    card = model_card(
        summary,
        best,
        name=f"{parts.task.name}, evolved by evo-merge",
        licenses={member.name: member.licence for member in parts.pool.models},
        languages=() if parts.task.language is None else (parts.task.language,),
        prompt=parts.task.prompt(parts.task.examples("test")[0]),
    )
    replace_text(model / "README.md", card)
    return [recipe, *reports, model]


def _needed_splits(settings: RunSettings) -> tuple[Split, ...]:
    return SPLITS if settings.selection == "validation" else ("search", "test")


def _tell(trackers: Sequence[Tracker], text: str) -> None:
    log.info("%s", text)
    for tracker in trackers:
        tracker.stage(text)


def _trackers(config: DictConfig, run_id: str, folder: Path) -> list[Tracker]:
    """The progress display, and the tracker of the config where it names one."""
    named = [instantiate(config.tracker, run_id, folder, _convert_="all")] if "_target_" in config.tracker else []
    return [Progress(), *named]


@contextmanager
def _closing(trackers: Sequence[Tracker]) -> Iterator[None]:
    """Close the trackers whatever happens."""
    try:
        yield
    finally:
        for tracker in reversed(trackers):
            tracker.close()


@contextmanager
def _stop_on_interrupt(folder: Path) -> Iterator[threading.Event]:
    """Ctrl-C, or a cluster's SIGTERM, sets a flag, so that the candidate in flight is recorded; a second one stops at once."""
    stop = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        log.warning("stopping after this candidate; once more stops at once")

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning makes a SystemExit of a KeyboardInterrupt
        if isinstance(error, SystemExit) and not stop.is_set():
            raise
        raise Interrupted(f"stopped; everything so far is saved: continue with  python -m evo_merge resume={folder}") from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
