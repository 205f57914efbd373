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
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, cast

from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from evo_merge import __version__
from evo_merge.baselines import entrants, single_model
from evo_merge.config import RunSettings
from evo_merge.errors import ConfigError, IncompatibleModelsError, Interrupted
from evo_merge.evaluation.evaluator import Evaluator
from evo_merge.evaluation.generator import Generator
from evo_merge.evaluation.setup import few_threads, new_evaluator, new_pool, new_trainer
from evo_merge.genome import Gene
from evo_merge.models.assemble import Assembler
from evo_merge.models.building import check_buildable
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.compatibility import refuse_unmixable, refuse_unroutable
from evo_merge.models.pool import Pool
from evo_merge.optimizers.base import Optimizer
from evo_merge.plan import Needs, describe_plan, needs_of, refuse_shortage
from evo_merge.recipe import DataFlowRecipe, Recipe, methods_of, to_yaml, without_scales
from evo_merge.report.model_card import model_card
from evo_merge.report.write import replace_text, write_report
from evo_merge.search import Budget, Recorded, Run, leaders, ranked_candidates
from evo_merge.seeds import child_seed
from evo_merge.spaces.base import Ingredients, MergeSpace
from evo_merge.stages import Conditions, Hybrid, Program, SingleSearch, search_portion, starts
from evo_merge.study import Entrant, Study, opened
from evo_merge.tasks.base import SPLITS, Portion, Split, Task
from evo_merge.trackers.base import Candidate, SearchStart, Tracker
from evo_merge.trackers.progress import Progress

log = logging.getLogger(__name__)
_RUN_ID = "run_id"  # what trackers call the run; the same for all its parts
_COMPARED = 50  # answers of the written model and of the candidate
N_FINALISTS = 10  # re-scored on the validation split where that chooses


@dataclass(frozen=True)
class Parts:
    """What a config composes: everything that a run and its plan need, before any weight is read."""

    settings: RunSettings
    budget: Budget
    task: Task
    pool: Pool
    ingredients: Ingredients
    program: Program
    generator: Generator
    trainer: Any

    @property
    def allowed_code(self) -> tuple[str, ...]:
        """Dotted names of methods from elsewhere that may run: those that the user allowed, and the config's own."""
        return (*self.settings.allow_code, *(name for recipe in starts(self.program) for name in methods_of(recipe)))

    @property
    def needs(self) -> Needs:
        """What the run takes of the machine."""
        device = self.trainer.strategy.root_device
        return needs_of(self.pool, self.program.spaces.values(), self.task, self.generator.batch_size, device)

    @property
    def portion(self) -> Callable[[int], Portion]:
        """What the candidates of a generation are asked."""
        settings = self.settings
        n_examples = len(self.task.examples("search"))
        return search_portion(n_examples, settings.evaluation.batch, child_seed(settings.seed, "batches"))


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
    pool = new_pool(config, headers_only=settings.plan)
    ingredients = _ingredients(pool)
    program = _program(config, settings, ingredients)
    generator: Generator = instantiate(config.generator, _convert_="all")
    budget, trainer = Budget(**asdict(settings.budget)), new_trainer(config)
    parts = Parts(settings, budget, task, pool, ingredients, program, generator, trainer)
    warnings = {text for recipe in starts(program) for text in check_buildable(recipe, pool, parts.allowed_code)}
    by_name = {model.name: model for model in pool.sources}
    for route in program.routes:  # what a stage finds has the shape of the models that it mixes
        warnings |= set(refuse_unroutable([by_name.get(name, pool.leader) for name in route]))
    warnings |= {f"'{name}' by itself is not scored: it knows fewer tokens than '{pool.leader.name}'" for name in _mute(pool)}
    for warning in sorted(warnings):
        log.warning("%s", warning)
    return parts


def _ingredients(pool: Pool) -> Ingredients:
    try:
        refuse_unmixable(pool.base, pool.sources)
    except IncompatibleModelsError:
        are_mixable = False
    else:
        are_mixable = True
    return Ingredients(
        base=None if pool.base is None else pool.base.reference,
        sources=pool.recipe_sources,
        tensors=tuple(pool.leader.shapes),
        out_dtype=pool.out_dtype,
        n_layers=tuple(int(getattr(model.config, "num_hidden_layers", 0)) for model in pool.sources),
        are_mixable=are_mixable,
    )


def _program(config: DictConfig, settings: RunSettings, ingredients: Ingredients) -> Program:
    def new_optimizer(genes: Sequence[Gene], seed: int) -> Optimizer:
        optimizer: Optimizer = instantiate(config.optimizer, genes, seed, _convert_="all")
        return optimizer

    seed = child_seed(settings.seed, "merge")
    if get_class(config.merge._target_) is Hybrid:
        hybrid: Hybrid = instantiate(config.merge, ingredients, seed, new_optimizer, _convert_="all")
        return hybrid
    space: MergeSpace = instantiate(config.merge, ingredients, seed, _convert_="all")
    return SingleSearch(space, new_optimizer(space.genes, child_seed(settings.seed, "optimizer")))


def plan(config: DictConfig, settings: RunSettings, folder: Path) -> None:
    """Print what a run would need; raises ``ConfigError`` where it does not fit this machine."""
    parts = compose_parts(config, settings)
    spaces, batch_size = parts.program.spaces, parts.generator.batch_size
    most, portion = parts.program.most_candidates(parts.budget), parts.portion(0)
    text = describe_plan(spaces, parts.pool, parts.task, parts.budget, most, batch_size, parts.needs, folder, portion)
    print(text, flush=True)  # noqa: T201
    refuse_shortage(parts.needs, folder)


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
    splits, allowed = _needed_splits(parts.settings), parts.allowed_code
    first = [entrant.recipe for entrant in _entrants(parts) if entrant.role in ("source", "unoptimised")]
    assembler = Assembler(parts.pool, parts.trainer.strategy.root_device, allowed)
    return new_evaluator(assembler, parts.task, parts.generator, parts.trainer, splits, first)


def _entrants(parts: Parts) -> list[Entrant]:
    """Who is scored beside the search; without models that do not know all tokens of the first, which all are asked in."""
    space = next(iter(parts.program.spaces.values()))
    found = entrants(space, parts.ingredients, child_seed(parts.settings.seed, "merge"))
    mute = _mute(parts.pool)
    return [entrant for entrant in found if not (entrant.role == "source" and entrant.name in mute)]


def _mute(pool: Pool) -> list[str]:
    """Sources whose embeddings lack tokens of the first model's vocabulary, so that they cannot be asked by themselves."""
    return [model.name for model in pool.sources if model.config.vocab_size < pool.leader.config.vocab_size]


def _run(config: DictConfig, parts: Parts, scorer: Evaluator, study: Study, folder: Path, trackers: Sequence[Tracker]) -> None:
    _describe(study, parts)
    with _stop_on_interrupt(folder) as stop:
        evaluator = Recorded(scorer, study, stop.is_set)
        baselines = _score_entrants(parts, study, evaluator, trackers)
        begin = partial(
            SearchStart,
            run_folder=folder,
            config=cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)),
            objectives=parts.task.objectives,
            baselines=baselines,
        )

        def evaluator_of(stage: str, task: Task) -> Recorded:
            study.record_examples(Portion("search", stage=stage).key, task.examples("search"))
            assembler = cast(Assembler, scorer.assembler)  # one for all tasks, so that nothing is resident twice
            inner = new_evaluator(assembler, task, parts.generator, parts.trainer, ["search"], ())
            return Recorded(inner, study, stop.is_set)

        run = Run(study, trackers, begin)

        def choose(stages: Collection[str]) -> Candidate | None:
            found = _best(parts, study, evaluator, stages)
            return None if found is None else found[0]

        conditions = Conditions(run, evaluator, evaluator_of, parts.portion, parts.budget, choose)
        stage_results = parts.program.conduct(conditions)
        if parts.settings.selection == "validation":
            _tell(trackers, "scoring the finalists on the validation split")
        best = _choose(parts, study, evaluator, stage_results)
        _tell(trackers, "scoring the test split")
        for entrant in study.entrants():
            evaluator.evaluate(entrant.recipe, Portion("test"))
        scorer.release()
        _tell(trackers, "writing the model and the report")
        files = _write(parts, study, folder, best)
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        for tracker in trackers:
            tracker.finish(summary, files)


def _describe(study: Study, parts: Parts) -> None:
    """Keep what the report says about the run, and the examples that its scores are about."""
    names = json.loads(study.get("names") or "{}")
    described = {
        "stages": json.dumps({name: [asdict(gene) for gene in space.genes] for name, space in parts.program.spaces.items()}),
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
    for entrant in _entrants(parts):
        study.record_entrant(entrant)
        if not study.is_evaluated(entrant.recipe, "search"):
            _tell(trackers, f"scoring {entrant.name}")
        evaluation = evaluator.evaluate(entrant.recipe, Portion("search"))
        scores[entrant.name] = float(evaluation.fitness[0])
    return scores


def _best(parts: Parts, study: Study, evaluator: Recorded, stages: Collection[str]) -> tuple[Candidate, float] | None:
    """The best candidate of some stages by what the run chooses by, and its score there; ``None`` where there is none."""
    if parts.settings.selection == "search":
        ranked = ranked_candidates(study, 1, stages)
        return (ranked[0], float(ranked[0].evaluation.fitness[0])) if ranked else None
    # Where every generation was asked other problems, only the best of each can be compared at all.
    ranked = leaders(study, stages) if parts.settings.evaluation.batch else _finalists(parts, study, stages)
    scores = [float(evaluator.evaluate(candidate.recipe, Portion("validation")).fitness[0]) for candidate in ranked]
    return (ranked[scores.index(max(scores))], max(scores)) if ranked else None


def _finalists(parts: Parts, study: Study, stages: Collection[str]) -> list[Candidate]:
    """The best candidates, and the best of an early stage that has none among them: many later ones had more luck to draw."""
    ranked = ranked_candidates(study, N_FINALISTS, stages)
    missing = set(stages) & set(parts.program.early_stages) - {candidate.stage for candidate in ranked}
    return ranked + [candidate for stage in sorted(missing) for candidate in ranked_candidates(study, 1, [stage])]


def _choose(parts: Parts, study: Study, evaluator: Recorded, stage_results: Sequence[Entrant]) -> Recipe:
    """The best candidate, kept as an entrant beside what it is to be compared with."""
    found = _best(parts, study, evaluator, parts.program.final_stages)
    if found is None:
        raise ConfigError(
            "no candidate could be built and scored, so there is nothing to choose; the reasons are in evo_merge.log"
        )
    best, score = found
    study.record_choice(best.number)
    if score <= 0:
        log.warning("the chosen candidate scored 0 or less; look at the answers in the report before you trust the merge")
    for role in ("best", "ablation", "stage"):
        study.drop_entrant(role)
    for entrant in stage_results:
        study.record_entrant(entrant)
    study.record_entrant(Entrant("best", "evolved", best.recipe))
    if isinstance(best.recipe, DataFlowRecipe) and (ablated := without_scales(best.recipe)) != best.recipe:
        study.record_entrant(Entrant("ablation", "evolved, all scales 1", ablated))
    return best.recipe


def _write(parts: Parts, study: Study, folder: Path, best: Recipe) -> list[Path]:
    recipe = replace_text(folder / "recipe.yaml", to_yaml(best))
    model = folder / "model"
    shutil.rmtree(model, ignore_errors=True)  # of a resumed run that chose again
    write_checkpoint(best, parts.pool, model, allowed_code=parts.allowed_code)
    if isinstance(best, DataFlowRecipe):
        _compare_written(parts, study, best, model)
    reports = write_report(folder, study)
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
