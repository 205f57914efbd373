"""Choosing among entries: masks.

Inside a compiled function a mask is what torch has for it, a ``bool`` an entry. Elsewhere torch compares several times as
slowly as it shifts and ands, and multiplies by a ``bool`` more slowly still; there a mask is a whole number an entry, with all
its bits set or none, found from the bits of floating numbers, which without their sign order like the numbers. Both mean the
same entries, and masks of either kind are joined by ``&``, ``^`` and ``~``.
"""

import struct
import sys
from typing import Final

import torch
from torch import Tensor

_AS_INT: Final = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}
_is_compiling = torch.compiler.is_compiling


def magnitude_bits(values: Tensor) -> Tensor:
    """The bits of the magnitudes of ``(*shape)`` as ``float32`` has them: ``int32``, not negative."""
    return _bits(values.float()) & 0x7FFFFFFF


def float_bits(value: float) -> int:
    """The bits of one number as ``float32`` has it."""
    return int.from_bytes(struct.pack("=f", value), sys.byteorder, signed=True)


def is_negative(values: Tensor) -> Tensor:
    """Where a number, floating or ``int32``, is below 0; of a floating 0 or -0 either may be said."""
    if _is_compiling():
        # Of -0 as in bits. Where it was taken for positive it would be kept: compilers leave out the 0 that it is added to.
        return values <= 0 if values.is_floating_point() else values < 0
    bits = _bits(values) if values.is_floating_point() else values
    return bits >> (8 * bits.itemsize - 1)


def is_positive(values: Tensor) -> Tensor:
    """Where a floating number is 0, -0 or above."""
    return values >= 0 if _is_compiling() else ~is_negative(values + 0.0)  # -0 + 0 is 0


def is_zero(values: Tensor) -> Tensor:
    """Where a floating number is 0 or -0."""
    return values == 0 if _is_compiling() else ~is_not_zero(values)


def is_not_zero(values: Tensor) -> Tensor:
    """Where a floating number is another."""
    if _is_compiling():
        return values != 0
    bits = _bits(values)
    return (-(bits & torch.iinfo(bits.dtype).max)) >> (8 * bits.itemsize - 1)


def reaches(values: Tensor, least: Tensor | float, index: Tensor | None = None, place: Tensor | int = 0) -> Tensor:
    """Where the magnitudes of floating numbers are as large as another, or, with an index, larger before a place.

    Args:
        values: ``(n,)``.
        least: A magnitude, ``()`` ``float32``, in a compiled function; elsewhere its bits.
        index: ``(n,)`` ``int32``.
        place: The index from which on being equal is enough.
    """
    if _is_compiling():
        magnitudes = values.float().abs()
        if index is None:
            return magnitudes >= least
        return (magnitudes > least) | ((magnitudes == least) & (index >= place))
    last = int(least) - 1
    return is_negative((last if index is None else (index < place).to(torch.int32) + last) - magnitude_bits(values))


def where(mask: Tensor, values: Tensor) -> Tensor:
    """The entries that the mask means, and 0 in place of the others.

    Args:
        mask: ``(*shape)``, found from numbers of any width.
        values: ``(*shape)``, floating, or ``()`` where every entry is the same.
    """
    if _is_compiling():
        return torch.where(mask, values, 0.0)
    bits = _bits(values)
    return (mask.to(bits.dtype) & bits).view(values.dtype)


def either(mask: Tensor, values: Tensor, others: Tensor) -> Tensor:
    """The entries of floating ``values`` that the mask means, and those of ``others`` elsewhere; none of them -0."""
    return torch.where(mask, values, others) if _is_compiling() else where(mask, values) + where(~mask, others)


def _bits(values: Tensor) -> Tensor:
    """Of floating numbers, as whole numbers of their width, in the same memory."""
    return values.view(_AS_INT[values.dtype])
