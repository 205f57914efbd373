"""Writing a folder of statistics, which appears only when all sources are there."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from evo_merge.calibration.gather import fisher_information, gram_matrices
from evo_merge.calibration.record import FISHER, SourceRecord, StatisticsRecord, digest_of_file
from evo_merge.calibration.stored import identity
from evo_merge.errors import ConfigError
from evo_merge.models.skeleton import filled_model
from evo_merge.seeds import child_seed

if TYPE_CHECKING:
    from torch import Tensor

    from evo_merge.models.pool import Model


def write_statistics(
    folder: Path,
    sources: Sequence[Model],
    rows_of: Callable[[Model], list[list[int]]],
    *,
    kind: str,
    labels: str,
    seed: int,
    limit: int,
    device: torch.device,
    settings: Mapping[str, Any],
) -> StatisticsRecord:
    """Gather the statistics of every source and write them.

    Args:
        folder: Must not exist, or be empty.
        sources: Each is loaded in ``float32``, one after the other.
        rows_of: Token ids of the texts that a source is shown.
        kind: One of ``record.KINDS``.
        labels: Of Fisher information, see ``fisher_information``.
        seed: Of the sampling; each source has a child of it.
        limit: Bytes that sums may take, see ``gram_matrices``.
        device: Where the models run.
        settings: What the record says of how it was made.

    Raises:
        ConfigError: The folder holds something.
        EvoMergeError: A model or the texts cannot be read.
    """
    records: dict[str, SourceRecord] = {}
    with _appearing(folder) as partial:
        for number, source in enumerate(sources):
            rows = rows_of(source)
            model = filled_model(source, torch.float32, device)
            if kind == FISHER:
                parts, scale = _scaled(model, fisher_information(model, rows, labels, child_seed(seed, source.name)))
            else:
                parts, scale = gram_matrices(model, rows, limit), 1.0
            stem = f"{number:02d}-" + re.sub(r"[^\w.-]", "_", source.name)
            files = dict(_saved(partial, stem, parts, source))
            tokens = sum(map(len, rows))
            records[source.name] = SourceRecord(str(source.reference), identity(source), files, len(rows), tokens, scale)
            del model
        record = StatisticsRecord(kind, dict(settings), records)
        record.write(partial)
    return record


def _scaled(model: Any, information: dict[str, Tensor]) -> tuple[Iterator[dict[str, Tensor]], float]:
    """The information under the names that weights have in files, with mean 1; and what the mean was."""
    from transformers.core_model_loading import revert_weight_conversion

    n = sum(tensor.numel() for tensor in information.values())
    mean = sum(float(tensor.double().sum()) for tensor in information.values()) / max(1, n)
    scaled = {name: tensor / mean if mean > 0.0 else tensor for name, tensor in information.items()}
    return iter([dict(revert_weight_conversion(model, scaled))]), mean


def _saved(folder: Path, stem: str, parts: Iterator[dict[str, Tensor]], source: Model) -> Iterator[tuple[str, str]]:
    """Names and digests of the files that were written; what is no tensor of the model's files has no place in them."""
    for number, part in enumerate(parts, start=1):
        file = f"{stem}-{number:05d}.safetensors"
        tensors = {name: tensor.contiguous().cpu() for name, tensor in sorted(part.items()) if name in source.shapes}
        save_file(tensors, folder / file)
        (folder / file).chmod(0o644)  # safetensors writes for the owner alone
        yield file, digest_of_file(folder / file)


def refuse_occupied(folder: Path) -> None:
    """Raise ``ConfigError`` where the folder holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"'{folder}' exists and is not empty; choose another folder with out=DIR")


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder to write to that takes its name when everything went well, and else is gone."""
    refuse_occupied(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if folder.exists():
            folder.rmdir()
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
