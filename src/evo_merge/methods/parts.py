"""Tensors cut into parts, so that what is made of one stays in the processor's cache."""

from collections.abc import Iterator
from typing import Final

import torch

# Entries. Smaller parts stay in a nearer cache, but threads that build then wait for each other's Python most of the time.
_PART: Final = 1 << 18
_GPU_PART: Final = 1 << 25  # large enough that a GPU computes longer than it waits to be called


def parts(n_entries: int, device: torch.device) -> Iterator[slice]:
    """Where the parts of a flattened tensor lie, the same on any number of threads.

    Args:
        n_entries: Of the tensor.
        device: Where it is.
    """
    size = _PART if device.type == "cpu" else _GPU_PART
    for start in range(0, n_entries, size):
        yield slice(start, min(start + size, n_entries))
