"""One run, from a composed config to a merged model and its evidence.

What is done: score the sources and the un-tuned merges, search, choose, score once on the test split, write. Each step looks
into the study first, so that a resumed run passes through what is done and goes on where it stopped.
"""

import json
import logging
import shutil
import signal
import threading
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from evo_merge import __version__
from evo_merge.aimed import Aimed
from evo_merge.archive import FOLDER, read_archive, write_archive
from evo_merge.baselines import single_model
from evo_merge.choose import Choice, choose, record_choice
from evo_merge.compose import Parts, compose_parts
from evo_merge.config import RunSettings
from evo_merge.detectable import Detectable, after_scoring, before_scoring
from evo_merge.errors import ConfigError, Interrupted
from evo_merge.evaluation.evaluator import Evaluator
from evo_merge.evaluation.pieced import Pieced
from evo_merge.evaluation.setup import few_threads, new_evaluator
from evo_merge.licences import StatedLicence
from evo_merge.mergeability import Mergeability
from evo_merge.models.assemble import Assembler
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.measure_pool import measure
from evo_merge.models.pool import Pool
from evo_merge.objectives import has_chance
from evo_merge.plan import describe_plan, refuse_shortage
from evo_merge.population import Neighbours
from evo_merge.program import Conditions
from evo_merge.recipe import DataFlowRecipe, Recipe, recipe_hash, to_yaml
from evo_merge.recorded import Recorded
from evo_merge.report.model_card import model_card, recipe_card
from evo_merge.report.write import replace_text, write_report
from evo_merge.reuse import ANSWERING, Memories, answering, earlier_studies
from evo_merge.search import Run
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Portion, Task, digest_of
from evo_merge.trackers.base import Candidate, SearchStart, Tracker
from evo_merge.trackers.progress import Progress

log = logging.getLogger(__name__)
_RUN_ID = "run_id"  # what trackers call the run; the same for all its parts
_MOST_TESTED = 50  # members of an archive
_COMPARED = 50  # answers of the written model and of the candidate


def plan(config: DictConfig, settings: RunSettings, folder: Path) -> None:
    """Print what a run would need; raises ``ConfigError`` where it does not fit this machine."""
    parts = compose_parts(config, settings)
    spaces, batch_size = parts.program.spaces, parts.generator.batch_size
    most, n_asked = parts.program.most_candidates(parts.budget), parts.n_asked
    beside = len(parts.entrants)
    text = describe_plan(
        spaces, parts.pool, parts.task, parts.budget, most, batch_size, parts.needs, folder, n_asked, parts.aim, beside
    )
    with earlier_studies(settings.evaluation.reused, config, parts.pool):
        print(text, flush=True)  # noqa: T201
    refuse_shortage(parts.needs, folder)


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
                _run(config, parts, scorer, study, folder, trackers, earlier)


def resume(config: DictConfig, settings: RunSettings, folder: Path) -> None:
    """Continue a run; the config is the stored one with what may be changed."""
    with opened(Study.resume(folder)) as study:
        parts = compose_parts(config, settings)
        refuse_shortage(parts.needs, folder)
        with earlier_studies(settings.evaluation.reused, config, parts.pool, is_resumed=True) as earlier:
            trackers = _trackers(config, study.get(_RUN_ID) or "", folder)
            with _closing(trackers), few_threads(parts.pool):
                _run(config, parts, _scorer(parts, trackers), study, folder, trackers, earlier)


def _measured(parts: Parts, trackers: Sequence[Tracker]) -> Mergeability | None:
    """How mergeable the sources are; ``None`` where no weights are mixed. What speaks against merging them is a warning."""
    if not parts.are_mixed:
        return None
    _tell(trackers, "measuring how mergeable the sources are")
    measured = measure(parts.pool, parts.trainer.strategy.root_device)
    for finding in measured.findings:
        if finding.is_warning:
            log.warning("%s", finding.text)
    return measured


def _scorer(parts: Parts, trackers: Sequence[Tracker]) -> Evaluator:
    _tell(trackers, "reading the models")
    first = [entrant.recipe for entrant in parts.entrants if entrant.role in ("source", "unoptimised")]
    assembler = Assembler(parts.pool, parts.trainer.strategy.root_device, parts.allowed_code)
    return new_evaluator(assembler, parts.task, parts.generator, parts.trainer, parts.splits, first)


def _run(
    config: DictConfig,
    parts: Parts,
    scorer: Evaluator,
    study: Study,
    folder: Path,
    trackers: Sequence[Tracker],
    earlier: Sequence[Study],
) -> None:
    _describe(study, parts)
    scorer.use_drafts(Neighbours(study))
    with _stop_on_interrupt(folder) as stop:
        sources = {entrant.name: entrant.recipe for entrant in parts.entrants if entrant.role == "source"}
        memory = Memories(study, earlier, parts.task)
        evaluator = Recorded(Aimed(Pieced(scorer, memory), parts.aim, sources, study.evaluation), study, stop.is_set)
        baselines = _score_entrants(parts, study, evaluator, trackers)
        detectable = _detectable(parts, study)
        if detectable.is_great:
            log.warning("%s; for more, give more test problems (task.limit.test or task.files.test)", detectable.sentence)
        begin = partial(
            SearchStart,
            run_folder=folder,
            config=cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)),
            baselines=baselines,
            evidence=detectable.sentence,
        )

        def evaluator_of(stage: str, task: Task) -> Recorded:
            study.record_examples(Portion("search", stage=stage).key, task.examples("search"), digest_of(task, "search"))
            assembler = cast(Assembler, scorer.assembler)  # one for all tasks, so that nothing is resident twice
            inner = new_evaluator(assembler, task, parts.generator, parts.trainer, ["search"], ())
            inner.use_drafts(Neighbours(study))
            return Recorded(Pieced(inner, Memories(study, earlier, task)), study, stop.is_set)

        run = Run(study, trackers, begin)

        def best_of(stages: Collection[str]) -> Candidate | None:
            found = choose(parts, study, evaluator, stages)
            return None if found is None else found.best

        def beside() -> NDArray[np.float64]:
            evaluations = (study.evaluation(entrant.recipe, "search") for entrant in parts.entrants)
            columns = [
                e.scores[:, e.metrics.index(parts.aim.objectives[0])] for e in evaluations if e is not None and len(e.scores)
            ]
            return np.stack(columns)

        conditions = Conditions(
            run=run,
            evaluator=evaluator,
            evaluator_of=evaluator_of,
            portion=parts.portion(beside),
            objectives=parts.aim.fitness_names,
            budget=parts.budget,
            choose=best_of,
            race=parts.race,
        )
        stage_results = parts.program.conduct(conditions)
        if parts.settings.selection == "validation":
            _tell(trackers, "scoring the finalists on the validation split")
        try:
            found = record_choice(parts, study, evaluator, stage_results, folder)
        except ConfigError:  # nothing to choose, and a report shows why
            write_report(folder, study)
            raise
        _tell(trackers, "scoring the test split")
        for recipe in _tested(study):
            evaluator.evaluate(recipe, Portion("test"))
        scorer.release()
        _tell(trackers, "writing the model and the report")
        files = _write(parts, study, folder, found)
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        for tracker in trackers:
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


def _score_entrants(parts: Parts, study: Study, evaluator: Recorded, trackers: Sequence[Tracker]) -> dict[str, float]:
    """Score the sources and un-tuned merges on the search split, and return their fitness by name."""
    scores = {}
    for entrant in parts.entrants:
        study.record_entrant(entrant)
        if not study.is_evaluated(entrant.recipe, "search"):
            _tell(trackers, f"scoring {entrant.name}")
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


def _tested(study: Study) -> Iterator[Recipe]:
    """Who is asked the test split: everyone that is compared, and the members of an archive, where they are not too many."""
    yield from (entrant.recipe for entrant in study.entrants())
    for stage in sorted(study.stages()):
        archive = read_archive(study, stage)
        members = () if archive is None else archive.candidates
        if len(members) > _MOST_TESTED:
            log.warning(
                "the archive has %d members, more than %d, so they are not asked the test split", len(members), _MOST_TESTED
            )
            continue
        yield from (study.candidate(number).recipe for number in members)


def _write(parts: Parts, study: Study, folder: Path, found: Choice) -> list[Path]:
    best = found.best.recipe
    recipe = replace_text(folder / "recipe.yaml", to_yaml(best))
    shutil.rmtree(folder / "front", ignore_errors=True)  # of a resumed run that chose again, like the model
    for member in found.front if len(found.front) > 1 else ():
        replace_text(folder / "front" / f"{member.number}.yaml", to_yaml(member.recipe))
        if parts.settings.export == "front":
            exported = folder / "front" / str(member.number)
            write_checkpoint(member.recipe, parts.pool, exported, allowed_code=parts.allowed_code)
            name = f"{parts.task.name}, candidate {member.number} of a front"
            card = recipe_card(member.recipe, name=name, licences=_licences(parts, member.recipe))
            replace_text(exported / "README.md", card)
    write_archive(folder, study, sorted(study.stages()))
    model = folder / "model"
    shutil.rmtree(model, ignore_errors=True)
    write_checkpoint(best, parts.pool, model, allowed_code=parts.allowed_code)
    if isinstance(best, DataFlowRecipe):
        _compare_written(parts, study, best, model)
    reports = write_report(folder, study)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    card = model_card(
        summary,
        best,
        name=f"{parts.task.name}, evolved by evo-merge",
        licences=_licences(parts, best),
        languages=() if parts.task.language is None else (parts.task.language,),
        prompt=parts.task.prompt(parts.task.examples("test")[0]),
    )
    replace_text(model / "README.md", card)
    return [recipe, *reports, *(each for each in (folder / "front", folder / FOLDER) if each.is_dir()), model]


def _licences(parts: Parts, recipe: Recipe) -> dict[str, tuple[StatedLicence, ...]]:
    """What each model in a merge states, by name."""
    return {model.name: model.licences for model in parts.pool.models_in(recipe)}


def _compare_written(parts: Parts, study: Study, best: DataFlowRecipe, model: Path) -> None:
    """Ask the written checkpoint some test problems: its scales are in its weights, and rounding them could show."""
    asked = Portion("test", tuple(range(min(_COMPARED, len(parts.task.examples("test"))))))
    written = Pool(base=None, sources=[{"name": "written", "model": str(model)}])
    assembler = Assembler(written, parts.trainer.strategy.root_device)
    evaluator = new_evaluator(assembler, parts.task, parts.generator, parts.trainer, ["test"], ())
    evaluation = evaluator.evaluate(single_model(written.leader.reference, written.out_dtype), asked)
    scored = study.evaluation(best, "test")
    if scored is None or scored.failure is not None or evaluation.failure is not None:
        return
    same = sum(map(str.__eq__, evaluation.completions, scored.completions))
    study.set("written_compared", json.dumps({"same": same, "of": len(evaluation.completions)}))
    if same < len(evaluation.completions):
        log.warning(
            "the written model answers %d of %d test problems otherwise than the candidate that was scored",
            len(evaluation.completions) - same,
            len(evaluation.completions),
        )


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
