"""Writing a folder of statistics, which appears only when all sources are there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from evo_merge.calibration.gather import fisher_information, gram_matrices
from evo_merge.calibration.record import FISHER, SourceRecord, StatisticsRecord
from evo_merge.calibration.stored import identity
from evo_merge.errors import ModelError
from evo_merge.fingerprints import digest_of_file
from evo_merge.models.checks.kinds import REARRANGED
from evo_merge.models.partial import partial_folder, place_for
from evo_merge.models.skeleton import are_views, as_in_files, empty_model, refuse_lacking
from evo_merge.seeds import child_seed

if TYPE_CHECKING:
    from torch import Tensor

    from evo_merge.models.model import Model


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
        ModelError: The folder holds something, cannot be made, is being written, or runs out of disk.
        EvoMergeError: A model or the texts cannot be read.
    """
    records: dict[str, SourceRecord] = {}
    with partial_folder(place_for(folder), "statistics", ()) as partial:
        for number, source in enumerate(sources):
            rows = rows_of(source)
            model = _loaded(source, device)
            if kind == FISHER:
                parts, scale = _scaled(model, fisher_information(model, rows, labels, child_seed(seed, source.name)))
            else:
                parts, scale = gram_matrices(model, rows, limit), 1.0
            stem = f"{number:02d}-" + re.sub(r"[^\w.-]", "_", source.name)
            files, n_weights = _saved(partial.path, stem, parts, source)
            tokens = sum(map(len, rows))
            of_model = (str(source.reference), identity(source))
            records[source.name] = SourceRecord(*of_model, files, n_weights, len(rows), tokens, scale)
            del model
        record = StatisticsRecord(kind, dict(settings), records)
        record.write(partial.path)
    return record


def _loaded(source: Model, device: torch.device) -> Any:
    """The model in ``float32``; raises ``ModelError`` where its weights cannot be read, or not put where they belong."""
    with device:
        model = empty_model(source.config, torch.float32)
    parameters = as_in_files(model)
    if not are_views(parameters.values(), model):
        raise ModelError(f"transformers rearranges weights of '{source.name}' when it loads them; {REARRANGED.mend}")
    refuse_lacking(parameters, source)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(source.read(name))
    source.forget()
    return model


def _scaled(model: Any, information: dict[str, Tensor]) -> tuple[Iterator[dict[str, Tensor]], float]:
    """The information under the names that weights have in files, with mean 1; and what the mean was."""
    from transformers.core_model_loading import revert_weight_conversion

    n = sum(tensor.numel() for tensor in information.values())
    mean = sum(float(tensor.double().sum()) for tensor in information.values()) / max(1, n)
    scaled = {name: tensor / mean if mean > 0.0 else tensor for name, tensor in information.items()}
    return iter([dict(revert_weight_conversion(model, scaled))]), mean


def _saved(folder: Path, stem: str, parts: Iterator[dict[str, Tensor]], source: Model) -> tuple[dict[str, str], int]:
    """The digests of the files that were written, by name, and how many tensors are in them."""
    digests: dict[str, str] = {}
    n_weights = 0
    for number, part in enumerate(parts, start=1):
        file = f"{stem}-{number:05d}.safetensors"
        tensors = {name: tensor.contiguous().cpu() for name, tensor in sorted(part.items()) if name in source.shapes}
        save_file(tensors, folder / file)
        (folder / file).chmod(0o644)  # safetensors writes for the owner alone
        digests[file] = digest_of_file(folder / file)
        n_weights += len(tensors)
    if n_weights == 0:
        raise ModelError(
            f"'{source.name}' has no linear layer of the kind that Gram matrices are taken of (those of a "
            f"'{source.config.model_type}' are others), so that merge=regmean would be the plain average; use merge=fisher"
        )
    return digests, n_weights
