"""Weights on their way into an engine, and engines deeper than the model in them.

An engine's number of layers is fixed when it starts, and a layer path has its own. A pre-norm block whose weights are all zero
adds nothing to the residual stream, so that a path of 20 layers runs exactly in an engine of 30: ten such layers behind it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

_SHARD_BYTES = 2_000_000_000  # what is copied at a time
_LAYER = re.compile(r"^(model\.layers\.)(\d+)(\..+)$")
_OF_NO_ACCOUNT = frozenset({"num_hidden_layers", "_name_or_path", "architectures", "transformers_version", "dtype"})


def fits(config: Any, engine: Any) -> bool:
    """Whether a model of a transformers config can run in an engine of another: alike, and at most as deep."""
    depth, room = config.num_hidden_layers, engine.num_hidden_layers
    record, deeper = config.to_dict(), engine.to_dict()
    if depth > room or record.keys() != deeper.keys():
        return False
    return all(_cut(deeper[key], room, depth) == value for key, value in record.items() if key not in _OF_NO_ACCOUNT)


def _cut(value: Any, n_layers: int, depth: int) -> Any:
    """The entries of the first layers, where there is one for each."""
    return value[:depth] if isinstance(value, list) and len(value) == n_layers else value


def deepened(tensors: Iterator[tuple[str, Tensor]], depth: int, room: int) -> Iterator[tuple[str, Tensor]]:
    """A checkpoint's tensors, and behind its last layer layers of zeros up to ``room``."""
    for name, tensor in tensors:
        yield name, tensor
        match = _LAYER.match(name)
        if match is not None and match[2] == "0":
            for layer in range(depth, room):
                yield f"{match[1]}{layer}{match[3]}", torch.zeros_like(tensor)


def write_weights(tensors: Iterator[tuple[str, Tensor]], folder: Path) -> None:
    """Write tensors as safetensors; those that were there before are gone."""
    remove_weights(folder)
    shard: dict[str, Tensor] = {}
    filled = n_shards = 0
    for name, tensor in tensors:
        shard[name] = tensor.detach().to("cpu", copy=True).contiguous()  # a layer may be in a path more than once
        filled += tensor.nbytes
        if filled > _SHARD_BYTES:
            save_file(shard, folder / f"model-{n_shards:05d}.safetensors", metadata={"format": "pt"})
            shard, filled, n_shards = {}, 0, n_shards + 1
    if shard:
        save_file(shard, folder / f"model-{n_shards:05d}.safetensors", metadata={"format": "pt"})


def remove_weights(folder: Path) -> None:
    """Remove the weights from a folder, which in memory are as large as those in use."""
    for file in folder.glob("*.safetensors"):
        file.unlink()
