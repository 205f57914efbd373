"""One run, from a composed config to a merged model and its evidence.

What is done: score the sources and the un-tuned merges, search, choose, score once on the test split, write. Each step looks
into the study first, so that a resumed run passes through what is done and goes on where it stopped.
"""

import json
import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from evo_merge import __version__
from evo_merge.baselines import start_of
from evo_merge.choose import record_choice
from evo_merge.compose import Parts, compose_parts
from evo_merge.config import RunSettings
from evo_merge.deliver import deliver, tested
from evo_merge.errors import ConfigError
from evo_merge.evaluation.evaluator import Evaluator
from evo_merge.evaluation.setup import few_threads, new_evaluator
from evo_merge.interrupts import stop_on_interrupt
from evo_merge.mergeability import Mergeability
from evo_merge.models.assemble import Assembler
from evo_merge.models.measure_pool import measure
from evo_merge.plan import describe_plan, refuse_shortage
from evo_merge.population import Neighbours
from evo_merge.report.write import write_report
from evo_merge.reuse import ANSWERING, answering, earlier_studies
from evo_merge.session import Session, conditions, tell
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Portion, digest_of
from evo_merge.trackers.base import Tracker
from evo_merge.trackers.progress import Progress
from evo_merge.weight_sums import cancelling_weights

log = logging.getLogger(__name__)
_RUN_ID = "run_id"  # what trackers call the run; the same for all its parts


def plan(config: DictConfig, settings: RunSettings, folder: Path) -> None:
    """Print what a run would need; raises ``ConfigError`` where it does not fit this machine."""
    parts = compose_parts(config, settings)
    spaces, batch_size = parts.program.spaces, parts.generator.batch_size
    most, n_asked = parts.program.most_candidates(parts.budget), parts.n_asked
    beside = len(parts.entrants)
    text = describe_plan(
        spaces, parts.pool, parts.task, parts.budget, most, batch_size, parts.needs, folder, n_asked, parts.aim, beside
    )
    for warning in _cancelling(parts):
        log.warning("%s", warning)
    with earlier_studies(settings.evaluation.reused, config, parts.pool):
        print(text, flush=True)  # noqa: T201
    refuse_shortage(parts.needs, folder)


def _cancelling(parts: Parts) -> list[str]:
    """Warnings about weights of the models that are recipes, and of the merges that the search begins at."""
    inside = [model.reference.recipe for model in parts.pool.models if model.reference.recipe is not None]
    recipes = [*inside, *(start_of(space) for space in parts.program.spaces.values())]
    return list(dict.fromkeys(warning for recipe in recipes for warning in cancelling_weights(recipe)))


def start(config: DictConfig, settings: RunSettings, names: dict[str, str], folder: Path) -> None:
    """Begin a new run in a folder; ``names`` are the chosen merge, optimizer and task."""
    parts = compose_parts(config, settings)
    refuse_shortage(parts.needs, folder)
    with earlier_studies(settings.evaluation.reused, config, parts.pool) as earlier:
        run_id = uuid.uuid4().hex[:8]
        trackers = _trackers(config, run_id, folder)
        with _closing(trackers), few_threads(parts.pool):
            # Before there is a study: what cannot be read, mixed or asked leaves none behind.
            measured, scorer = _measured(parts, trackers), _scorer(parts, trackers)
            with opened(Study.create(folder)) as study:
                study.set("config", OmegaConf.to_yaml(config, resolve=True))
                study.set("names", json.dumps(names))
                study.set(_RUN_ID, run_id)
                if measured is not None:
                    study.set("mergeability", measured.to_json())
                _run(Session(config, parts, scorer, study, folder, trackers, earlier))


def resume(config: DictConfig, settings: RunSettings, folder: Path) -> None:
    """Continue a run; the config is the stored one with what may be changed."""
    with opened(Study.resume(folder)) as study:
        parts = compose_parts(config, settings)
        refuse_shortage(parts.needs, folder)
        with earlier_studies(settings.evaluation.reused, config, parts.pool, is_resumed=True) as earlier:
            trackers = _trackers(config, study.get(_RUN_ID) or "", folder)
            with _closing(trackers), few_threads(parts.pool):
                _run(Session(config, parts, _scorer(parts, trackers), study, folder, trackers, earlier))


def _measured(parts: Parts, trackers: Sequence[Tracker]) -> Mergeability | None:
    """How mergeable the sources are; ``None`` where no weights are mixed. What speaks against merging them is a warning."""
    if not parts.are_mixed:
        return None
    tell(trackers, "measuring how mergeable the sources are")
    measured = measure(parts.pool, parts.trainer.strategy.root_device)
    for finding in measured.findings:
        if finding.is_warning:
            log.warning("%s", finding.text)
    return measured


def _scorer(parts: Parts, trackers: Sequence[Tracker]) -> Evaluator:
    tell(trackers, "reading the models")
    first = [entrant.recipe for entrant in parts.entrants if entrant.role in ("source", "unoptimised")]
    assembler = Assembler(parts.pool, parts.trainer.strategy.root_device, parts.allowed_code)
    return new_evaluator(assembler, parts.task, parts.generator, parts.trainer, parts.splits, first)


def _run(session: Session) -> None:
    parts, study, folder = session.parts, session.study, session.folder
    _describe(study, parts)
    session.scorer.use_drafts(Neighbours(study))
    with stop_on_interrupt(folder, session.stop):
        evaluator = session.evaluator()
        stage_results = parts.program.conduct(conditions(session, evaluator))
        if parts.settings.selection == "validation":
            tell(session.trackers, "scoring the finalists on the validation split")
        try:
            found = record_choice(parts, study, evaluator, stage_results, folder)
        except ConfigError:  # nothing to choose, and a report shows why
            write_report(folder, study)
            raise
        tell(session.trackers, "scoring the test split")
        for recipe in tested(study):
            evaluator.evaluate(recipe, Portion("test"))
        session.scorer.release()
        tell(session.trackers, "writing the model and the report")
        files = deliver(parts, study, folder, found)
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        for tracker in session.trackers:
            tracker.finish(summary, files)


def _describe(study: Study, parts: Parts) -> None:
    """Keep what the report says about the run, and the examples that its scores are about."""
    names = json.loads(study.get("names") or "{}")
    described = {
        "stages": json.dumps({name: [asdict(gene) for gene in space.genes] for name, space in parts.program.spaces.items()}),
        "objectives": json.dumps(parts.aim.objectives),
        "fitness": json.dumps(parts.aim.fitness_names),
        "constraints": json.dumps(parts.aim.constraints),
        "selection": parts.settings.selection,
        "seed": str(parts.settings.seed),
        "evo_merge_version": __version__,
        **names,
    }
    for key, value in described.items():
        study.set(key, value)
    study.record_fingerprints({str(model.reference): model.fingerprint for model in parts.pool.models})
    if study.get(ANSWERING) is None:
        study.set(ANSWERING, json.dumps(answering(parts.pool)))
    for split in parts.splits:
        study.record_examples(split, parts.task.examples(split), digest_of(parts.task, split))


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
