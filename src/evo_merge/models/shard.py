"""Writing one safetensors file as a stream: the header first, then tensor after tensor, none of them kept.

The format (https://github.com/huggingface/safetensors): eight bytes with the length of the header, the header as JSON padded
with spaces to a multiple of eight, then the raw little-endian bytes of the tensors. The bytes are those of
``safetensors.torch.save_file``, but for the metadata, which that writes in the order of a hash map and we in order of its keys.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from evo_merge.errors import ModelError

# Names that safetensors gives to dtypes, in its own order: tensors of a later dtype lie further in front.
NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
_RANKS = {dtype: rank for rank, dtype in enumerate(NAMES)}
_ALIGNMENT = 8


@dataclass(frozen=True)
class Shard:
    """What a file holds, known before any of its tensors is.

    Attributes:
        file: Its name.
        shapes: By tensor.
        dtypes: By tensor.
        metadata: Texts that travel in the header.
    """

    file: str
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]
    metadata: Mapping[str, str]

    @cached_property
    def names(self) -> list[str]:
        """The tensors in the order in which they lie in the file: as safetensors sorts them, the widest dtypes first."""
        return sorted(self.shapes, key=lambda name: (-_RANKS[self.dtypes[name]], name))

    @cached_property
    def header(self) -> bytes:
        """What the file begins with."""
        entries: dict[str, object] = {"__metadata__": dict(sorted(self.metadata.items()))} if self.metadata else {}
        end = 0
        for name in self.names:
            start, end = end, end + self.n_bytes(name)
            entries[name] = {"dtype": NAMES[self.dtypes[name]], "shape": self.shapes[name], "data_offsets": [start, end]}
        text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
        text = text.ljust(-(-len(text) // _ALIGNMENT) * _ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    def n_bytes(self, name: str) -> int:
        """Of one tensor."""
        return prod(self.shapes[name]) * self.dtypes[name].itemsize

    def length(self, n_tensors: int | None = None) -> int:
        """Bytes of the file up to the end of its first tensors, by default of all."""
        return len(self.header) + sum(map(self.n_bytes, self.names[:n_tensors]))


def write_header(file: BinaryIO, shard: Shard) -> None:
    """Begin the file."""
    write_all(file, shard.header)


def write_tensor(file: BinaryIO, shard: Shard, name: str, tensor: Tensor) -> None:
    """Append the tensor whose turn it is; raises ``ValueError`` where it is not what the header says of it."""
    if tuple(tensor.shape) != tuple(shard.shapes[name]) or tensor.dtype != shard.dtypes[name]:
        raise ValueError(
            f"the header of '{shard.file}' has '{name}' as {shard.dtypes[name]} {shard.shapes[name]}, "
            f"got {tensor.dtype} {tuple(tensor.shape)}"
        )
    plain = tensor.detach().contiguous().flatten()
    if sys.byteorder == "big":
        raise ModelError("weights are written on little-endian machines only; build on another machine")
    write_all(file, plain.view(torch.uint8).numpy().data)


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of it to an unbuffered file, which may take only a part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of files, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
