"""``python -m evo_merge.evaluate``: score one checkpoint, one recipe, or completions that were saved."""

import json
import logging
import math
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from evo_merge.command_line import run_hydra
from evo_merge.errors import ConfigError, DataError

log = logging.getLogger(__name__)
PARTS = ("task", "generator", "trainer")


def main() -> int:
    """Run the command; returns the exit code."""
    return run_hydra("evaluate", _job)


def _job(config: DictConfig) -> None:
    if (config.model is None) == (config.completions is None):
        raise ConfigError("name either model=DIR or completions=FILE.jsonl, to say what is scored")
    if config.completions is not None and config.out is None:
        raise ConfigError("completions need out=FILE.jsonl, where the verdicts go")
    from hydra.utils import instantiate

    from evo_merge.config import check
    from evo_merge.tasks.base import SPLITS

    if config.split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}, got '{config.split}'")
    check(config, PARTS)
    task = instantiate(config.task, _convert_="all")
    verdicts = _judge_saved(task, config.completions) if config.model is None else _answer(config, task)
    if config.out is not None:
        _write(Path(str(config.out)).expanduser(), verdicts)
    _print_score(verdicts, task.name if config.model is None else f"{task.name} {config.split}")


def _judge_saved(task: Any, path: str) -> list[dict[str, Any]]:
    return [{"id": example.id, **_verdict(task, example, text)} for example, text in task.saved_completions(path)]


def _answer(config: DictConfig, task: Any) -> list[dict[str, Any]]:
    """Let the model answer the split."""
    from hydra.utils import instantiate

    from evo_merge.baselines import single_model
    from evo_merge.evaluation.evaluator import Evaluator
    from evo_merge.models.assemble import Assembler
    from evo_merge.models.pool import Pool
    from evo_merge.recipe import ModelReference, load
    from evo_merge.run import new_trainer

    examples = task.examples(config.split)
    if not examples:
        raise DataError(
            f"task '{task.name}' has no {config.split} examples; name a JSON Lines file: task.files.{config.split}=FILE"
        )
    path = Path(str(config.model)).expanduser()
    if path.suffix in (".yaml", ".yml"):
        recipe = load(path)
        pool = Pool.of_recipe(recipe)
    else:
        pool = Pool(base=None, sources=[{"name": "model", "model": str(config.model)}])
        recipe = single_model(ModelReference(model=str(config.model)), pool.out_dtype)
    trainer = new_trainer(config)
    assembler = Assembler(pool, trainer.strategy.root_device, tuple(config.allow_code))
    generator = instantiate(config.generator, _convert_="all")
    evaluation = Evaluator(assembler, pool.tokenizer, task, generator, trainer, [config.split]).evaluate(recipe, config.split)
    if evaluation.failure is not None:
        raise ConfigError(f"'{config.model}' cannot be scored: {evaluation.failure}")
    answers = zip(examples, evaluation.completions, strict=True)
    return [{"id": e.id, "completion": text, **_verdict(task, e, text)} for e, text in answers]


def _verdict(task: Any, example: Any, completion: str) -> dict[str, Any]:
    verdict = task.judge(example, completion)
    number = verdict.number if verdict.number is None or math.isfinite(verdict.number) else None  # JSON has no infinity
    return {"number": number, "correct": verdict.correct, "language_ok": verdict.language_ok, "score": verdict.score}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    from evo_merge.report.write import replace_text

    try:
        replace_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    except OSError as error:
        raise ConfigError(f"out: cannot write '{path}': {error.strerror}") from error


def _print_score(rows: list[dict[str, Any]], what: str) -> None:
    import numpy as np

    from evo_merge.report.statistics import interval

    scores = np.asarray([row["score"] for row in rows], dtype=np.float64)
    bounds = interval(scores)
    correct, spoken = (100 * sum(row[key] for row in rows) / len(rows) for key in ("correct", "language_ok"))
    print(  # noqa: T201
        f"{what}: {100 * scores.mean():.1f} % [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}] of {len(rows)}"
        f" (right number {correct:.1f} %, right language {spoken:.1f} %)"
    )


if __name__ == "__main__":
    sys.exit(main())
