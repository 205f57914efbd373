"""``python -m evo_merge.calibrate``: the statistics of the sources that merge=fisher and merge=regmean ask for."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from evo_merge.command_line import run_hydra
from evo_merge.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from evo_merge.models.model import Model
    from evo_merge.models.pool import Pool

PARTS = ("models", "generator", "trainer")
_METHODS = {"fisher": "fisher", "gram": "regmean"}
_GB = 1e9


def main() -> int:
    """Run the command; returns the exit code."""
    return run_hydra("calibrate", _job)


def _job(config: DictConfig) -> None:
    _check_options(config)
    from hydra.utils import instantiate

    from evo_merge.calibration.write import write_statistics
    from evo_merge.config import check
    from evo_merge.evaluation.setup import few_threads, new_trainer
    from evo_merge.models.partial import place_for

    check(config, (*PARTS, *([] if config.get("task") is None else ["task"])))
    folder = Path(str(config.out)).expanduser()
    place_for(folder)  # before anything is loaded
    pool: Pool = instantiate(config.models, _convert_="all")
    with few_threads(pool):
        trainer = new_trainer(config)
        rows_of = _file_rows(config, pool) if config.get("task") is None else _own_answers(config, pool, trainer)
        record = write_statistics(
            folder,
            pool.sources,
            rows_of,
            kind=config.kind,
            labels=config.labels,
            seed=config.seed,
            limit=int(config.memory * _GB),
            device=trainer.strategy.root_device,
            settings=_settings(config),
        )
    for name, source in record.sources.items():
        n_weights = len(next(model for model in pool.sources if model.name == name).shapes)
        counted = f"{source.texts} texts, {source.tokens} tokens, statistics of {source.weights} of {n_weights} weights"
        print(f"{name}: {counted}")  # noqa: T201
    options = [f"merge.method.statistics={folder}", *(word for word in sys.argv[1:] if word.startswith("models"))]  # the same
    print(f"python -m evo_merge merge={_METHODS[config.kind]} {shlex.join(options)}")  # noqa: T201


def _check_options(config: DictConfig) -> None:
    from evo_merge.calibration.record import KINDS, LABELS

    for key, meaning in (("kind", f"one of {' and '.join(KINDS)}"), ("out", "the folder to write")):
        if OmegaConf.is_missing(config, key):
            raise ConfigError(
                f"{key} is not set; it is {meaning}: python -m evo_merge.calibrate kind=gram models=… data=FILE.jsonl out=DIR"
            )
    if config.kind not in KINDS:
        raise ConfigError(f"kind must be one of {', '.join(KINDS)}, got '{config.kind}'")
    if config.labels not in LABELS:
        raise ConfigError(f"labels must be one of {', '.join(LABELS)}, got '{config.labels}'")
    if (config.data is None) == (config.get("task") is None):
        raise ConfigError(
            "name either data=FILE.jsonl, or task=TASK for problems of its search split with the sources' own answers"
        )
    if OmegaConf.is_list(config.data):
        raise ConfigError("data must be one file, or a mapping with one for each source, {NAME: FILE.jsonl}, got a list")
    counted = [("max_tokens", config.max_tokens), *([] if config.limit is None else [("limit", config.limit)])]
    for key, value in counted:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{key} must be a whole number of at least 1, got {value!r}")
    if not isinstance(config.seed, int) or isinstance(config.seed, bool) or config.seed < 0:
        raise ConfigError(f"seed must be a whole number of at least 0, got {config.seed!r}")
    if not isinstance(config.memory, int | float) or not config.memory > 0:
        raise ConfigError(f"memory must be a number of GB above 0, got {config.memory!r}")


def _settings(config: DictConfig) -> dict[str, Any]:
    """What the record says of how it was made."""
    kept = ["limit", "max_tokens", "seed", *(["labels"] if config.kind == "fisher" else [])]
    data = OmegaConf.to_container(config.data) if OmegaConf.is_config(config.data) else config.data
    texts = {"data": data} if config.get("task") is None else {"task": config.task.name}
    return texts | {key: config[key] for key in kept}


def _file_rows(config: DictConfig, pool: Pool) -> Callable[[Model], list[list[int]]]:
    """Reads the texts of a source from the file that is named for it, or for all."""
    from evo_merge.calibration.texts import rows_of_file

    names = [source.name for source in pool.sources]
    files = dict(config.data) if OmegaConf.is_config(config.data) else dict.fromkeys(names, config.data)
    if lacking := [name for name in names if name not in files]:
        raise ConfigError(f"data names no file for '{lacking[0]}'; name one for each of {', '.join(names)}, or one for all")
    if unknown := [name for name in files if name not in names]:
        raise ConfigError(f"data: there is no source '{unknown[0]}'; there are {', '.join(names)}")

    def rows(source: Model) -> list[list[int]]:
        return rows_of_file(str(files[source.name]), source.tokenizer or pool.tokenizer, config.limit, config.max_tokens)

    for source in pool.sources:
        rows(source)  # what is wrong with a file shows before any model is loaded
    return rows


def _own_answers(config: DictConfig, pool: Pool, trainer: Any) -> Callable[[Model], list[list[int]]]:
    """Asks a source problems of the task's search split; its texts are these with its own answers."""
    from hydra.utils import instantiate

    from evo_merge.baselines import single_model
    from evo_merge.calibration.texts import joined
    from evo_merge.evaluation.prompts import render_split
    from evo_merge.evaluation.setup import new_evaluator
    from evo_merge.models.assemble import Assembler
    from evo_merge.tasks.base import Decoding, Portion

    task = instantiate(config.task, _convert_="all")
    n = min(len(task.examples("search")), config.limit or sys.maxsize)
    examples = task.examples("search")[:n]
    if not examples or not all(isinstance(task.answering_of(example), Decoding) for example in examples):
        raise ConfigError(f"task '{task.name}' has no problems that are answered by text; name texts with data=FILE.jsonl")
    assembler = Assembler(pool, trainer.strategy.root_device, tuple(config.allow_code))
    evaluator = new_evaluator(assembler, task, instantiate(config.generator, _convert_="all"), trainer, ["search"], ())
    prompts = render_split(task, "search", pool.tokenizer, None, 1).rows[:n]
    portion = Portion("search", tuple(range(n)))

    def rows(source: Model) -> list[list[int]]:
        answered = evaluator.evaluate(single_model(source.reference, pool.out_dtype, source.name, pool.tokenizer_rule), portion)
        evaluator.release()
        if answered.failure is not None:
            raise ModelError(f"'{source.name}' cannot answer the task's problems: {answered.failure}")
        return joined(prompts, answered.completions, pool.tokenizer, config.max_tokens)

    return rows


if __name__ == "__main__":
    sys.exit(main())
