"""Chance without state: a hash of (seed, source, tensor, index) in place of a random number generator.

Each entry's number depends on nothing but its own place, so a mask is the same whatever the order, the parts, thread count or
device. The mixer is the 32-bit finaliser ``lowbias32`` (Wellons 2018, https://nullprogram.com/blog/2018/07/31/), applied
twice with independent keys.
"""

import hashlib
import math

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from evo_merge.methods.bitmasks import is_negative

_BITS = 24  # fill a float32's mantissa exactly, so no value rounds up to 1
_INT32 = 1 << 31


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
        return _drawn(bits).to(torch.float32) * 2.0**-_BITS


def entry_index(start: int, count: int, device: torch.device) -> Tensor:
    """The places of entries in the flattened tensor, ``(count,)`` ``int32``, wrapping around beyond its range."""
    if start + count < _INT32:
        return torch.arange(start, start + count, dtype=torch.int32, device=device)
    return torch.arange(start, start + count, dtype=torch.int64, device=device).to(torch.int32)


def entry_bits(index: Tensor, first: Tensor | int, second: Tensor | int) -> Tensor:
    """32 random bits an entry.

    Args:
        index: From ``entry_index``.
        first: A key, ``()`` ``int32``.
        second: Another.
    """
    bits = index ^ first
    if bits.is_cpu and not torch.compiler.is_compiling():
        unsigned = bits.numpy().view(numpy.uint32)  # the same memory
        _mix(unsigned)
        unsigned ^= numpy.uint32(int(second) & 0xFFFFFFFF)
        _mix(unsigned)
        return bits
    return _mixed(_mixed(bits) ^ second)


def bits_below(share: float) -> int:
    """How many of the values of noise lie below a share, from 0 to ``2**24``."""
    return math.ceil(float(numpy.float32(share)) * (1 << _BITS))


def below(bits: Tensor, n_below: Tensor | int) -> Tensor:
    """Where the noise that bits stand for is one of the lowest ``n_below`` values: a mask (``bitmasks``) of their shape."""
    drawn = _drawn(bits)
    drawn -= n_below
    return is_negative(drawn)


def as_bits(noise: Tensor) -> Tensor:
    """Bits that stand for noise ``float32`` in [0, 1)."""
    return ((noise * float(1 << _BITS)).to(torch.int64) << (32 - _BITS)).to(torch.int32)


def _drawn(bits: Tensor) -> Tensor:
    drawn = bits >> (32 - _BITS)
    drawn &= (1 << _BITS) - 1
    return drawn


def _mixed(bits: Tensor) -> Tensor:
    """Scramble ``int32`` numbers in place, one to one; products wrap around."""
    # Tensors shift arithmetically; the mask makes the shift a logical one.
    bits ^= (bits >> 16) & 0xFFFF
    bits *= 0x7FEB352D
    bits ^= (bits >> 15) & 0x1FFFF
    bits *= 0x846CA68B - (1 << 32)
    bits ^= (bits >> 16) & 0xFFFF
    return bits


def _mix(bits: NDArray[numpy.uint32]) -> None:
    """As ``_mixed`` in half the time, which numpy does without a compiler: its numbers have no sign, its results a place."""
    shifted = numpy.empty_like(bits)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, None)):
        numpy.right_shift(bits, shift, out=shifted)
        numpy.bitwise_xor(bits, shifted, out=bits)
        if factor is not None:
            numpy.multiply(bits, numpy.uint32(factor), out=bits)
