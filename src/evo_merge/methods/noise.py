"""Chance without state: a hash of (seed, source, tensor, index) in place of a random number generator.

Each entry's number depends on nothing but its own place, so a mask is the same whatever the order, chunking, thread count or
device. The mixer is the 32-bit finaliser ``lowbias32`` (Wellons 2018, https://nullprogram.com/blog/2018/07/31/), applied
twice with independent keys.
"""

import hashlib

import torch
from torch import Tensor


class EntryNoise:
    """Uniform noise for the entries of one source's tensor.

    Args:
        seed: Of the recipe.
        source: Name of the source.
        tensor: Full name of the tensor.
    """

    def __init__(self, seed: int, source: str, tensor: str) -> None:
        digest = hashlib.blake2b(f"{seed}\0{source}\0{tensor}".encode(), digest_size=8).digest()
        self._keys = tuple(int.from_bytes(digest[i : i + 4], "little", signed=True) for i in (0, 4))

    def __call__(self, start: int, count: int, device: torch.device) -> Tensor:
        """Noise of the entries ``start`` to ``start + count`` of the flattened tensor: ``(count,)`` ``float32`` in [0, 1)."""
        bits = torch.arange(start, start + count, dtype=torch.int64, device=device).to(torch.int32)
        for key in self._keys:
            bits ^= key
            _mix(bits)
        # 24 bits fill a float32's mantissa exactly, so no value rounds up to 1.
        return ((bits >> 8) & 0xFFFFFF).to(torch.float32).mul_(2.0**-24)


def _mix(bits: Tensor) -> None:
    """Scramble ``int32`` numbers in place, one to one; products wrap around."""
    # Tensors shift arithmetically; the mask makes the shift a logical one.
    bits ^= (bits >> 16) & 0xFFFF
    bits *= 0x7FEB352D
    bits ^= (bits >> 15) & 0x1FFFF
    bits *= 0x846CA68B - (1 << 32)
    bits ^= (bits >> 16) & 0xFFFF
