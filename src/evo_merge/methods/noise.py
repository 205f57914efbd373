"""Chance without state: a hash of (seed, source, tensor, index) in place of a random number generator.

Each entry's number depends on nothing but its own place, so a mask is the same whatever the order, chunking, thread count or
device. The mixer is the 32-bit finaliser ``lowbias32`` (Wellons 2018, https://nullprogram.com/blog/2018/07/31/), applied
twice with independent keys.
"""

import hashlib
import math

import torch
from torch import Tensor

_BITS = 24  # fill a float32's mantissa exactly, so no value rounds up to 1
_LOWEST = -(1 << 31)


class EntryNoise:
    """Uniform noise for the entries of one source's tensor.

    Args:
        seed: Of the recipe.
        source: Name of the source.
        tensor: Full name of the tensor.

    Attributes:
        keys: Two ``int32`` numbers, which are all that tells its noise from other noise.
    """

    def __init__(self, seed: int, source: str, tensor: str) -> None:
        digest = hashlib.blake2b(f"{seed}\0{source}\0{tensor}".encode(), digest_size=8).digest()
        self.keys = tuple(int.from_bytes(digest[i : i + 4], "little", signed=True) for i in (0, 4))

    def __call__(self, start: int, count: int, device: torch.device) -> Tensor:
        """Noise of the entries ``start`` to ``start + count`` of the flattened tensor: ``(count,)`` ``float32`` in [0, 1)."""
        bits = entry_bits(entry_index(start, count, device), *self.keys)
        return ((bits >> (32 - _BITS)) & ((1 << _BITS) - 1)).to(torch.float32) * 2.0**-_BITS


def entry_index(start: int, count: int, device: torch.device) -> Tensor:
    """The places of entries in the flattened tensor, ``(count,)`` ``int32``, wrapping around beyond its range."""
    return torch.arange(start, start + count, dtype=torch.int64, device=device).to(torch.int32)


def entry_bits(index: Tensor, first: Tensor | int, second: Tensor | int) -> Tensor:
    """32 random bits an entry.

    Args:
        index: From ``entry_index``.
        first: A key, ``()`` ``int32``.
        second: Another.
    """
    return _mixed(_mixed(index ^ first) ^ second)


def share_of_bits(share: float) -> int:
    """The number that ``below_share`` compares bits with, so that it says of each entry what ``noise < share`` says.

    A share of 0 would need a number below the lowest: it keeps one entry in 2**32, which whoever asks multiplies by 0.
    """
    kept = math.ceil(torch.tensor(share, dtype=torch.float32).item() * (1 << _BITS))
    return max(_LOWEST, (kept << (32 - _BITS)) - 1 + _LOWEST)


def below_share(bits: Tensor, share: Tensor | int) -> Tensor:
    """Where the noise that bits stand for lies below a share: ``bool`` of their shape, without making the noise."""
    return (bits ^ _LOWEST) <= share  # as if the bits had no sign


def as_bits(noise: Tensor) -> Tensor:
    """Bits that stand for noise ``float32`` in [0, 1)."""
    return ((noise * float(1 << _BITS)).to(torch.int64) << (32 - _BITS)).to(torch.int32)


def _mixed(bits: Tensor) -> Tensor:
    """Scramble ``int32`` numbers in place, one to one; products wrap around."""
    # Tensors shift arithmetically; the mask makes the shift a logical one.
    bits ^= (bits >> 16) & 0xFFFF
    bits *= 0x7FEB352D
    bits ^= (bits >> 15) & 0x1FFFF
    bits *= 0x846CA68B - (1 << 32)
    bits ^= (bits >> 16) & 0xFFFF
    return bits
