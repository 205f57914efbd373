"""``python -m evo_merge.evaluate``: score a checkpoint, a recipe, everyone whom a run compared, or saved completions."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from evo_merge.command_line import run_hydra
from evo_merge.errors import ConfigError, DataError

if TYPE_CHECKING:
    from evo_merge.models.pool import Pool
    from evo_merge.recipe import Recipe
    from evo_merge.tasks.base import Split

PARTS = ("task", "generator", "trainer")


def main() -> int:
    """Run the command; returns the exit code."""
    return run_hydra("evaluate", _job)


def _job(config: DictConfig) -> None:
    if sum(config[key] is not None for key in ("model", "run", "completions")) != 1:
        raise ConfigError("name one of model=DIR, run=<run folder> and completions=FILE.jsonl, to say what is scored")
    if config.completions is not None and config.out is None:
        raise ConfigError("completions need out=FILE.jsonl, where the verdicts go")
    from hydra.utils import instantiate

    from evo_merge.config import check
    from evo_merge.tasks.base import SPLITS

    if config.split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}, got '{config.split}'")
    named = (
        None if config.completions is not None else _of_run(config.run) if config.run is not None else _of_model(config.model)
    )
    check(config, PARTS)
    task = instantiate(config.task, _convert_="all")
    if named is None:
        if not hasattr(task, "saved_completions"):
            raise ConfigError(f"task '{task.name}' cannot read saved completions; score a model with model=DIR")
        scored = {"": _judge_saved(task, config.completions)}
    else:
        scored = _answer(config, task, *named)
    if config.out is not None:
        _write(Path(str(config.out)).expanduser(), [row for rows in scored.values() for row in rows])
    what = task.name if config.completions is not None else f"{task.name} {config.split}"
    for name, rows in scored.items():
        _print_scores(rows, f"{what}, {name}" if name else what)
    if config.completions is None:
        _print_of_the_whole(task, config.split, scored)


def _print_of_the_whole(task: Any, split: Split, scored: Mapping[str, list[dict[str, Any]]]) -> None:
    """What is no number of one example: corpus-level metrics, and the table of several tasks with their named average."""
    import numpy as np

    from evo_merge.scoreboard import scoreboard

    if hasattr(task, "corpus_metrics"):
        for name, rows in scored.items():
            found = task.corpus_metrics(task.examples(split), [row["completion"] for row in rows])
            if found:
                listed = ", ".join(f"{metric} {value:.3f}" for metric, value in found.items())
                print(f"{task.name} {split}{', ' if name else ''}{name}, of all answers together: {listed}")  # noqa: T201
    if getattr(task, "average", None):
        by_model = {
            name: {key: float(np.mean([row[key] for row in rows if key in row])) for key in task.objectives}
            for name, rows in scored.items()
        }
        print(scoreboard(task.average, by_model, task.objectives))  # noqa: T201


def _judge_saved(task: Any, path: str) -> list[dict[str, Any]]:
    return [{"id": example.id, **_verdict(task.judge(example, text))} for example, text in task.saved_completions(path)]


def _of_model(name: str) -> tuple[Pool, dict[str, Recipe]]:
    """The pool and recipe of a checkpoint or a recipe file."""
    from evo_merge.baselines import single_model
    from evo_merge.models.pool import Pool
    from evo_merge.models.reference import pinned_recipe
    from evo_merge.recipe_file import load

    path = Path(str(name)).expanduser()
    if path.suffix in (".yaml", ".yml"):
        recipe = pinned_recipe(load(path))
        return Pool.of_recipe(recipe), {"": recipe}
    pool = Pool(base=None, sources=[{"name": "model", "model": name}])
    return pool, {"": single_model(pool.sources[0].reference, pool.out_dtype)}


def _of_run(name: str) -> tuple[Pool, dict[str, Recipe]]:
    """The pool of a run, and the recipes of everyone that it compared."""
    from omegaconf import OmegaConf

    from evo_merge.study import Study, opened

    with opened(Study.read(Path(name).expanduser())) as study:
        run: Any = OmegaConf.create(study.get("config") or "")
        recipes = {entrant.name: entrant.recipe for entrant in study.entrants()}
    if not recipes:
        raise ConfigError(f"run: '{name}' ended before it began; start it again")
    from evo_merge.evaluation.setup import new_pool  # Lightning, for which a wrong folder need not wait

    return new_pool(run), recipes


def _answer(config: DictConfig, task: Any, pool: Pool, recipes: Mapping[str, Recipe]) -> dict[str, list[dict[str, Any]]]:
    """Let each model answer the split; the verdicts by model."""
    from hydra.utils import instantiate

    from evo_merge.evaluation.setup import few_threads, new_evaluator, new_trainer
    from evo_merge.models.assemble import Assembler
    from evo_merge.recipe import methods_of
    from evo_merge.tasks.base import Portion

    examples = task.examples(config.split)
    if not examples:
        raise DataError(f"task '{task.name}' has no {config.split} examples; name a file: task.files.{config.split}=FILE")
    generator = instantiate(config.generator, _convert_="all")
    scored = {}
    allowed = list(config.allow_code)
    if config.run is not None:
        allowed += [name for recipe in recipes.values() for name in methods_of(recipe)]  # the run had allowed them
    with few_threads(pool):
        trainer = new_trainer(config)
        assembler = Assembler(pool, trainer.strategy.root_device, tuple(allowed))
        evaluator = new_evaluator(assembler, task, generator, trainer, [config.split], list(recipes.values()))
        for name, recipe in recipes.items():
            evaluation = evaluator.evaluate(recipe, Portion(config.split))
            if evaluation.failure is not None:
                raise ConfigError(f"'{name or config.model}' cannot be scored: {evaluation.failure}")
            label = {"model": name} if name else {}
            answers = zip(examples, evaluation.completions, evaluation.scores.tolist(), strict=True)
            scored[name] = [
                {**label, "id": example.id, "completion": text, **_judged(task, example, text, row)}
                for example, text, row in answers
            ]
    return scored


def _judged(task: Any, example: Any, completion: str, scores: list[float]) -> dict[str, Any]:
    if hasattr(task, "judge"):
        return _verdict(task.judge(example, completion))
    scored = zip(task.metrics, scores, strict=True)
    return {name: value for name, value in scored if not math.isnan(value)}  # of several tasks each has its own metrics


def _verdict(verdict: Any) -> dict[str, Any]:
    number = verdict.number if verdict.number is None or math.isfinite(verdict.number) else None  # JSON has no infinity
    return {"number": number, "correct": verdict.correct, "language_ok": verdict.language_ok, "score": verdict.score}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    from evo_merge.report.write import replace_text

    try:
        replace_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    except OSError as error:
        raise ConfigError(f"out: cannot write '{path}': {error.strerror}") from error


def _print_scores(rows: list[dict[str, Any]], what: str) -> None:
    """A line for the rows that were measured alike: one, but for several tasks together."""
    by_metrics: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        measured = tuple(key for key, value in row.items() if isinstance(value, bool | float | int) and key != "number")
        by_metrics.setdefault(measured, []).append(row)
    for measured, alike in by_metrics.items():
        _print_score(alike, measured, what)


def _print_score(rows: list[dict[str, Any]], measured: tuple[str, ...], what: str) -> None:
    import numpy as np

    from evo_merge.statistics.intervals import interval

    first = "score" if "score" in measured else measured[0]
    what = what if first == "score" else f"{what}, {first}"
    scores = np.asarray([row[first] for row in rows], dtype=np.float64)
    bounds = interval(scores)
    others = ", ".join(f"{key} {100 * np.mean([row[key] for row in rows]):.1f} %" for key in measured if key != first)
    interval_text = f"[{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"
    print(f"{what}: {100 * scores.mean():.1f} % {interval_text} of {len(rows)}" + (f" ({others})" if others else ""))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
