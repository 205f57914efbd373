"""What a run will need, before it is started: genes, candidates, memory, disk, time; and the refusal where it cannot fit."""

import math
import shutil
import time
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch

from evo_merge.errors import ConfigError
from evo_merge.genome import Gene
from evo_merge.models.pool import Pool
from evo_merge.models.residency import candidate_bytes, choose_residency, free_bytes, weight_bytes
from evo_merge.search import Budget
from evo_merge.tasks.base import Task

_SHOWN = 12  # genes


def refuse_shortage(pool: Pool, folder: Path) -> None:
    """Refuse a run whose candidate does not fit into memory or whose checkpoint does not fit on the disk.

    Raises:
        ConfigError: With what is needed and what is free.
    """
    needed, free = candidate_bytes(pool), free_bytes(torch.device("cpu"))
    if needed > free:
        raise ConfigError(
            f"one candidate takes {_gigabytes(needed)} of memory and {_gigabytes(free)} are free; choose "
            "models.out_dtype=bfloat16, or a machine with more memory"
        )
    free = shutil.disk_usage(_existing(folder)).free
    if needed > free:
        raise ConfigError(
            f"the merged model takes {_gigabytes(needed)} on disk and {_gigabytes(free)} are free where '{folder}' lies"
        )


def describe_plan(genes: Sequence[Gene], pool: Pool, task: Task, budget: Budget, batch_size: int, folder: Path) -> str:
    """The plan as text. The time is for the case that every answer runs to its limit, on this machine as it is now."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    n_search, n_test = len(task.examples("search")), len(task.examples("test"))
    residency = choose_residency(pool, device)
    per_candidate = _merge_seconds(pool) + _answer_seconds(pool, task, n_search, batch_size)
    per_test = _merge_seconds(pool) + _answer_seconds(pool, task, n_test, batch_size)
    n_models = len(pool.sources) + 5  # with the un-tuned merges and the best
    candidates = (
        "no limit by number" if budget.evaluations is None else f"at least {budget.evaluations} (a generation is never cut)"
    )
    total = None if budget.evaluations is None else (budget.evaluations + n_models) * per_candidate + n_models * per_test
    names = ", ".join(gene.name for gene in genes[:_SHOWN]) + (
        f" and {len(genes) - _SHOWN} more" if len(genes) > _SHOWN else ""
    )
    size, disk = candidate_bytes(pool), shutil.disk_usage(_existing(folder)).free
    licences = ", ".join(f"{model.name}: {model.licence or 'unknown'}" for model in pool.models)
    lines = [
        f"task        {task.name}: {n_search} problems a candidate, {n_test} in the test split, "
        f"at most {task.decoding.max_new_tokens} new tokens each",
        f"models      {', '.join(f'{model.name} ({model.reference})' for model in pool.models)}",
        f"licences    {licences}",
        f"genes       {len(genes)}: {names}",
        f"candidates  {candidates}",
        f"memory      models {_gigabytes(weight_bytes(pool))} (they wait on: {residency}), one candidate {_gigabytes(size)} in "
        f"{pool.out_dtype}, {_gigabytes(free_bytes(device))} free on {device.type}; besides, caches of {batch_size} answers",
        f"disk        {_gigabytes(size)} for the merged model, {_gigabytes(disk)} free",
        f"time        at most {_clock(per_candidate)} a candidate, if every answer runs to its limit"
        + ("" if total is None else f"; at most {_clock(total)} for the run"),
    ]
    return "\n".join(lines)


def _merge_seconds(pool: Pool) -> float:
    return (weight_bytes(pool) + candidate_bytes(pool)) / _bytes_per_second()


def _answer_seconds(pool: Pool, task: Task, n_problems: int, batch_size: int) -> float:
    """Every step of a batch reads all weights once and computes two operations a weight and row, whichever takes longer."""
    n_weights = sum(prod(shape) for shape in pool.leader.shapes.values())
    batches = math.ceil(n_problems / batch_size)
    rows = min(batch_size, n_problems)
    step = max(candidate_bytes(pool) / _bytes_per_second(), 2 * n_weights * rows / _operations_per_second(pool.out_dtype))
    layers = getattr(pool.leader.config, "num_hidden_layers", 1)
    overhead = layers * 3e-4  # of calling the modules of one layer from Python
    return batches * task.decoding.max_new_tokens * (step + overhead)


def _bytes_per_second() -> float:
    source = torch.empty(32_000_000, dtype=torch.float32)
    target = torch.empty_like(source)
    target.copy_(source)
    started = time.perf_counter()
    target.copy_(source)
    return 2 * source.numel() * 4 / (time.perf_counter() - started)


def _operations_per_second(dtype: str) -> float:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    n = 1024
    a = torch.ones((n, n), dtype=getattr(torch, dtype), device=device)
    float((a @ a).sum())
    started = time.perf_counter()
    float((a @ a).sum())
    return 2 * n**3 / (time.perf_counter() - started)


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())


def _gigabytes(n: int) -> str:
    return f"{n / 1e9:.2f} GB" if n >= 1e7 else f"{n / 1e6:.1f} MB"


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
