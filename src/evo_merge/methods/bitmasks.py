"""Choosing among entries by their bits.

A mask is a whole number an entry, with all bits set where the entry is meant and none elsewhere: floating numbers without their
sign order like the whole numbers that their bits are, and torch shifts, subtracts and masks several times as quickly as it
compares, or as it multiplies by what is true.
"""

from typing import Final

import torch
from torch import Tensor

_AS_INT: Final = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}


def bits_of(values: Tensor) -> Tensor:
    """The bits of floating numbers ``(*shape)`` as whole numbers of their width, in the same memory."""
    return values.view(_AS_INT[values.dtype])


def magnitude_bits(values: Tensor) -> Tensor:
    """The magnitudes of ``(*shape)`` as ``float32`` has them, as ``int32``; they order as the magnitudes do."""
    return bits_of(values.float()) & 0x7FFFFFFF


def at_least(bits: Tensor, least: Tensor | int) -> Tensor:
    """Where whole numbers from 0 on reach another from 0 on: a mask."""
    return is_negative((least - 1) - bits)


def is_negative(bits: Tensor) -> Tensor:
    """Where the sign bit is set: a mask."""
    return bits >> (8 * bits.itemsize - 1)


def is_zero(bits: Tensor) -> Tensor:
    """Where the bits are those of 0 or of -0: a mask."""
    return is_negative((bits & torch.iinfo(bits.dtype).max) - 1)


def is_not_zero(bits: Tensor) -> Tensor:
    """Where they are of another number: a mask."""
    return is_negative(-(bits & torch.iinfo(bits.dtype).max))


def where(mask: Tensor, values: Tensor) -> Tensor:
    """The entries that the mask means, and 0 in place of the others.

    Args:
        mask: ``(*shape)``, of any width.
        values: ``(*shape)``, or ``()`` where every entry is the same.
    """
    bits = bits_of(values)
    return (mask.to(bits.dtype) & bits).view(values.dtype)
