"""What a run will need, before it is started: genes, candidates, memory, disk, time; and the refusal where it cannot fit."""

import itertools
import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from evo_merge.baselines import start_of
from evo_merge.detectable import before_scoring
from evo_merge.errors import ConfigError
from evo_merge.genome import Gene
from evo_merge.licences import combine, in_words
from evo_merge.models.pool import Pool
from evo_merge.models.prepared import prepared_bytes
from evo_merge.models.residency import (
    Residency,
    cache_bytes,
    candidate_bytes,
    free_bytes,
    gigabytes,
    path_bytes,
    residency_of,
)
from evo_merge.models.waiting import waiting_bytes
from evo_merge.objectives import Aim
from evo_merge.recipe import ParameterSpaceRecipe
from evo_merge.search import Budget
from evo_merge.spaces.base import MergeSpace
from evo_merge.spaces.data_flow import DataFlowSpace
from evo_merge.tasks.base import Decoding, Example, Task

_SHOWN = 12  # genes


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run takes of the machine, in bytes.

    Attributes:
        device: Where candidates are built and asked.
        models: Base and sources as they wait; for layer paths, as they are resident.
        candidate: What a candidate takes in memory beside them: one model where weights are mixed, nothing for a path.
        resident: What must be on the device beside caches: a mixed candidate, or all models that one path runs through.
        step: Weights that a token passes through.
        checkpoint: The merged model on disk, of a path as long as may be.
        caches: The key-value cache of one batch whose answers all run to their limit.
        hops: Layers of a candidate, at most.
        residency: Where the models wait between candidates, and why.
        prepared: What the method keeps of its own beside the models, about.
        engine: Where an engine of its own answers, its copy of the weights and the one that carries them there.
    """

    device: torch.device
    models: int
    candidate: int
    resident: int
    step: int
    checkpoint: int
    caches: int
    hops: int
    residency: Residency
    prepared: int = 0
    engine: int = 0

    @property
    def at_once(self) -> int:
        """What must fit into the device's memory."""
        return self.caches + self.resident + self.engine

    def with_engine(self, cache_bytes: int) -> "Needs":
        """The same, where an engine answers that has weights and caches of its own."""
        return replace(self, caches=cache_bytes, engine=2 * self.checkpoint)


def needs_of(pool: Pool, spaces: Iterable[MergeSpace], task: Task, batch_size: int, device: torch.device) -> Needs:
    """Find out from headers, configs and the task's prompts what a run takes."""
    spaces = list(spaces)
    # A prompt has at most about as many tokens as characters.
    asked = task.examples("search")
    longest = max((_characters(task, example) for example in asked), default=0)
    tokens = min(longest, getattr(pool.leader.config, "max_position_embeddings", None) or 2**31)
    rows = min(batch_size, max(len(task.examples("search")), len(task.examples("test"))))
    # The longest of what is scored: a candidate, or all models stacked.
    paths = [max(space.max_hops, len(space.stacked().path)) for space in spaces if isinstance(space, DataFlowSpace)]
    mixes = len(paths) < len(spaces)
    hops = max([*paths, *([getattr(pool.leader.config, "num_hidden_layers", 1)] if mixes else [])])
    longest_path = max([*(path_bytes(pool, n) for n in paths), *([candidate_bytes(pool)] if mixes else [])])
    single = candidate_bytes(pool)
    through = 0 if not paths else 2 if mixes else len(pool.models)  # a hybrid's paths run through pairs
    mixed = [recipe for space in spaces if isinstance(recipe := start_of(space), ParameterSpaceRecipe)]
    waiting = max((waiting_bytes(pool, recipe) for recipe in mixed), default=len(pool.models) * single)
    prepared = max((prepared_bytes(pool, recipe) for recipe in mixed), default=0)
    in_memory = Residency("device", "paths run through them")
    residency = residency_of(pool, device, waiting, prepared) if mixes else in_memory
    return Needs(
        device=device,
        models=waiting,
        candidate=single if mixes else 0,
        resident=max(single if mixes else 0, through * single),
        step=longest_path,
        checkpoint=longest_path,
        caches=cache_bytes(pool, rows, tokens, hops),
        hops=hops,
        residency=residency,
        prepared=0 if residency.place == "disk" else prepared,
    )


def _characters(task: Task, example: Example) -> int:
    """Of what the model reads for an example, and the most new tokens."""
    way = task.answering_of(example)
    if isinstance(way, Decoding):
        return len(str(task.prompt(example))) + way.at_most
    return max((len(str(context or "")) + len(continuation) for context, continuation in way.pairs), default=0)


def refuse_shortage(needs: Needs, folder: Path) -> None:
    """Refuse a run whose candidate and caches do not fit into memory, or whose checkpoint does not fit on the disk.

    Raises:
        ConfigError: With what is needed and what is free.
    """
    free = free_bytes(needs.device)
    if needs.at_once > free:
        what = f"one candidate takes {gigabytes(needs.candidate)}"
        if needs.resident > needs.candidate:
            what = f"the models whose layers paths run through take {gigabytes(needs.resident)}"
        if needs.engine:
            what += f", the engine's copies of the weights {gigabytes(needs.engine)}"
        raise ConfigError(
            f"{what} of memory and the caches of its answers up to "
            f"{gigabytes(needs.caches)}, and {gigabytes(free)} are free on {needs.device.type}; lower "
            "generator.batch_size, choose models.out_dtype=bfloat16, or a machine with more memory"
        )
    free = shutil.disk_usage(_existing(folder)).free
    if needs.checkpoint > free:
        raise ConfigError(
            f"the merged model takes {gigabytes(needs.checkpoint)} on disk and {gigabytes(free)} are free for '{folder}'"
        )


def describe_plan(
    spaces: Mapping[str, MergeSpace],
    pool: Pool,
    task: Task,
    budget: Budget,
    most_candidates: int | None,
    batch_size: int,
    needs: Needs,
    folder: Path,
    n_search: int,
    aim: Aim,
    n_rivals: int,
) -> str:
    """The plan as text. The time is for the case that every answer runs to its limit, on this machine as it is now."""
    n_test = len(task.examples("test"))
    ways = [task.answering_of(example) for example in task.examples("search")]
    # Where continuations are compared, all are read at once: about the time of one new token.
    limit = max(way.at_most if isinstance(way, Decoding) else 1 for way in ways)
    speed = _Speed.measured(needs.device, pool.out_dtype)
    merging = (needs.models + needs.candidate) / speed.bytes_a_second if needs.candidate else 0.0
    per_candidate = merging + _answer_seconds(n_search, limit, batch_size, needs, pool, speed)
    per_test = merging + _answer_seconds(n_test, limit, batch_size, needs, pool, speed)
    n_models = len(pool.sources) + 5  # with the un-tuned merges and the best
    limits = [f"{value} {name}" for name, value in asdict(budget).items() if value is not None]
    candidates = f"until {' or '.join(limits)} (a generation is never cut)"
    most = most_candidates
    total = None if most is None else (most + n_models) * per_candidate + n_models * per_test
    disk = shutil.disk_usage(_existing(folder)).free
    stated = {model.name: model.licences for model in pool.models}
    combined = combine(stated)
    left_out = "".join(f"; left out: {name} {reason}" for name, reason in pool.left_out.items())
    if len(spaces) > 1:
        candidates = f"in parameter space {candidates}, then pairs as merge.trial and merge.budget say"
    built = f"one candidate {gigabytes(needs.candidate)} in {pool.out_dtype}"
    if not needs.candidate:
        built = f"shared by all candidates of up to {needs.hops} layers, in {pool.out_dtype}"
    # All pairs of a hybrid search alike.
    shown = dict(itertools.islice(spaces.items(), 1 + sum(not isinstance(s, DataFlowSpace) for s in spaces.values())))
    if needs.engine:
        built += f", the engine's copy of the weights and the one that carries them there {gigabytes(needs.engine)}"
    kept = f"what the method finds once of them about {gigabytes(needs.prepared)}, " if needs.prepared else ""
    lines = [
        f"task        {task.name}: {n_search} problems a candidate, {n_test} in the test split, "
        f"at most {limit} new tokens each",
        f"wanted      {aim.in_words()}",
        f"evidence    {before_scoring(n_test, n_rivals)}",
        f"models      {', '.join(f'{model.name} ({model.reference})' for model in pool.models)}",
        f"licences    {in_words(stated)}{left_out}",
        f"            the merge: {combined.terms.value}. {combined.sentence}",
        *(_genes_line(name, space.genes) for name, space in shown.items()),
        f"candidates  {candidates}",
        f"tokens      at most {n_search * limit:,} a candidate"
        + ("" if most is None else f", {n_search * limit * most:,} for about {most:,} candidates"),
        f"memory      models {gigabytes(needs.models)}, {kept}{built}, caches of {batch_size} answers at a time up to "
        f"{gigabytes(needs.caches)}; {gigabytes(free_bytes(needs.device))} free on {needs.device.type}",
        f"            between candidates the models wait on: {needs.residency.place} ({needs.residency.reason}); "
        "models.residency= sets it",
        f"disk        {gigabytes(needs.checkpoint)} for the merged model, {gigabytes(disk)} free",
        f"time        about {_clock(per_candidate)} a candidate where every answer runs to its limit"
        + ("" if total is None else f", and then about {_clock(total)} for the run"),
    ]
    if len(spaces) > len(shown):
        lines.insert(6 + len(shown), f"            and so for {len(spaces) - len(shown)} more pairs")
    return "\n".join(lines)


def _genes_line(stage: str, genes: Sequence[Gene]) -> str:
    names = ", ".join(gene.name for gene in genes[:_SHOWN])
    more = f" and {len(genes) - _SHOWN} more" if len(genes) > _SHOWN else ""
    return f"genes       {f'{stage}: ' if stage else ''}{len(genes)}: {names}{more}"


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


def _answer_seconds(n_problems: int, limit: int, batch_size: int, needs: Needs, pool: Pool, speed: _Speed) -> float:
    """Every step of a batch reads all weights once and computes two operations a weight and row, whichever takes longer."""
    n_weights = needs.step / getattr(torch, pool.out_dtype).itemsize
    batches, rows = math.ceil(n_problems / batch_size), min(batch_size, n_problems)
    step: float = max(needs.step / speed.bytes_a_second, 2 * n_weights * rows / speed.operations_a_second)
    overhead = needs.hops * 3e-4  # of calling one layer's modules from Python
    return batches * limit * (step + overhead)


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
