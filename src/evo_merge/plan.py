"""What a run will need, before it is started: genes, candidates, memory, disk, time; and the refusal where it cannot fit."""

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from evo_merge.errors import ConfigError
from evo_merge.genome import Gene
from evo_merge.models.pool import Pool
from evo_merge.models.residency import cache_bytes, candidate_bytes, choose_residency, free_bytes, weight_bytes
from evo_merge.search import Budget
from evo_merge.tasks.base import Task

_SHOWN = 12  # genes


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run takes of the machine, in bytes.

    Attributes:
        device: Where candidates are built and asked.
        models: Base and sources as they are read.
        candidate: One merged model, in memory and on disk.
        caches: The key-value cache of one batch whose answers all run to their limit.
        residency: Where the models wait between candidates.
    """

    device: torch.device
    models: int
    candidate: int
    caches: int
    residency: str


def needs_of(pool: Pool, task: Task, batch_size: int, device: torch.device) -> Needs:
    """Find out from headers, configs and the task's prompts what a run takes."""
    # A prompt has at most about as many tokens as characters.
    longest = max((len(str(task.prompt(example))) for example in task.examples("search")), default=0)
    tokens = min(longest + task.decoding.max_new_tokens, getattr(pool.leader.config, "max_position_embeddings", None) or 2**31)
    rows = min(batch_size, max(len(task.examples("search")), len(task.examples("test"))))
    caches = cache_bytes(pool, rows, tokens)
    return Needs(device, weight_bytes(pool), candidate_bytes(pool), caches, choose_residency(pool, device))


def refuse_shortage(needs: Needs, folder: Path) -> None:
    """Refuse a run whose candidate and caches do not fit into memory, or whose checkpoint does not fit on the disk.

    Raises:
        ConfigError: With what is needed and what is free.
    """
    free = free_bytes(needs.device)
    if needs.candidate + needs.caches > free:
        raise ConfigError(
            f"one candidate takes {_gigabytes(needs.candidate)} of memory and the caches of its answers up to "
            f"{_gigabytes(needs.caches)}, and {_gigabytes(free)} are free on {needs.device.type}; lower "
            "generator.batch_size, choose models.out_dtype=bfloat16, or a machine with more memory"
        )
    free = shutil.disk_usage(_existing(folder)).free
    if needs.candidate > free:
        raise ConfigError(
            f"the merged model takes {_gigabytes(needs.candidate)} on disk and {_gigabytes(free)} are free for '{folder}'"
        )


def describe_plan(
    genes: Sequence[Gene], pool: Pool, task: Task, budget: Budget, batch_size: int, needs: Needs, folder: Path
) -> str:
    """The plan as text. The time is for the case that every answer runs to its limit, on this machine as it is now."""
    n_search, n_test = len(task.examples("search")), len(task.examples("test"))
    speed = _Speed.measured(needs.device, pool.out_dtype)
    merging = (needs.models + needs.candidate) / speed.bytes_a_second
    per_candidate = merging + _answer_seconds(pool, task, n_search, batch_size, needs, speed)
    per_test = merging + _answer_seconds(pool, task, n_test, batch_size, needs, speed)
    n_models = len(pool.sources) + 5  # with the un-tuned merges and the best
    limits = [f"{value} {name}" for name, value in asdict(budget).items() if value is not None]
    candidates = f"until {' or '.join(limits)} (a generation is never cut)"
    total = None if budget.evaluations is None else (budget.evaluations + n_models) * per_candidate + n_models * per_test
    names = ", ".join(gene.name for gene in genes[:_SHOWN]) + (
        f" and {len(genes) - _SHOWN} more" if len(genes) > _SHOWN else ""
    )
    disk = shutil.disk_usage(_existing(folder)).free
    licences = ", ".join(f"{model.name}: {model.licence or 'unknown'}" for model in pool.models)
    lines = [
        f"task        {task.name}: {n_search} problems a candidate, {n_test} in the test split, "
        f"at most {task.decoding.max_new_tokens} new tokens each",
        f"models      {', '.join(f'{model.name} ({model.reference})' for model in pool.models)}",
        f"licences    {licences}",
        f"genes       {len(genes)}: {names}",
        f"candidates  {candidates}",
        f"memory      models {_gigabytes(needs.models)} (they wait on: {needs.residency}), one candidate "
        f"{_gigabytes(needs.candidate)} in {pool.out_dtype}, caches of {batch_size} answers at a time up to "
        f"{_gigabytes(needs.caches)}; {_gigabytes(free_bytes(needs.device))} free on {needs.device.type}",
        f"disk        {_gigabytes(needs.candidate)} for the merged model, {_gigabytes(disk)} free",
        f"time        at most {_clock(per_candidate)} a candidate, if every answer runs to its limit"
        + ("" if total is None else f"; at most {_clock(total)} for the run"),
    ]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Speed:
    """What the device does in a second, measured for a moment."""

    bytes_a_second: float
    operations_a_second: float

    @classmethod
    def measured(cls, device: torch.device, dtype: str) -> "_Speed":
        source = torch.ones(32_000_000, dtype=torch.float32, device=device)
        target = torch.empty_like(source)
        matrix = torch.ones((1024, 1024), dtype=getattr(torch, dtype), device=device)
        copying = _seconds(lambda: target.copy_(source))
        multiplying = _seconds(lambda: matrix @ matrix)
        return cls(2 * source.numel() * source.itemsize / copying, 2 * 1024**3 / multiplying)


def _seconds(action: Callable[[], Tensor]) -> float:
    float(action().flatten()[0])  # warms up; reading a number waits for the device
    started = time.perf_counter()
    float(action().flatten()[0])
    return time.perf_counter() - started


def _answer_seconds(pool: Pool, task: Task, n_problems: int, batch_size: int, needs: Needs, speed: _Speed) -> float:
    """Every step of a batch reads all weights once and computes two operations a weight and row, whichever takes longer."""
    n_weights = sum(prod(shape) for shape in pool.leader.shapes.values())
    batches, rows = math.ceil(n_problems / batch_size), min(batch_size, n_problems)
    step = max(needs.candidate / speed.bytes_a_second, 2 * n_weights * rows / speed.operations_a_second)
    overhead = getattr(pool.leader.config, "num_hidden_layers", 1) * 3e-4  # of calling one layer's modules from Python
    return batches * task.decoding.max_new_tokens * (step + overhead)


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())


def _gigabytes(n: int) -> str:
    return f"{n / 1e9:.2f} GB" if n >= 1e7 else f"{n / 1e6:.1f} MB"


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
