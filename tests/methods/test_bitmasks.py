"""Masks of bits mean what comparisons say, in a compiled function and out of one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from evo_merge.methods import bitmasks
from evo_merge.methods.bitmasks import either, float_bits, is_negative, is_not_zero, is_positive, is_zero, reaches, where

VALUES = [0.0, -0.0, 1.0, -1.0, 0.5, 3.0, -3.0, 65504.0, float("inf"), float("-inf")]
TINY = {torch.float32: 1e-45, torch.bfloat16: 1e-40, torch.float16: 6e-8}


@pytest.fixture(params=TINY, ids=str)
def values(request: pytest.FixtureRequest) -> Tensor:
    tiny = TINY[request.param]
    return torch.tensor([*VALUES, tiny, -tiny], dtype=request.param)


@pytest.fixture(params=[False, True], ids=["eager", "compiled"])
def as_there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the functions do what they do in a compiled function."""
    monkeypatch.setattr(bitmasks, "_is_compiling", lambda: request.param)
    return bool(request.param)


def meant(mask: Tensor) -> list[bool]:
    """A mask is of booleans, or has all its bits set or none."""
    assert mask.dtype == torch.bool or set(mask.tolist()) <= {-1, 0}
    return [bool(entry) for entry in mask.tolist()]


@pytest.mark.parametrize(
    ("mask_of", "says"),
    [
        (is_positive, lambda values: values >= 0),
        (is_zero, lambda values: values == 0),
        (is_not_zero, lambda values: values != 0),
        (lambda values: is_negative(values) & is_not_zero(values), lambda values: values < 0),
    ],
)
def test_masks_mean_what_comparisons_say(
    values: Tensor, as_there: bool, mask_of: Callable[[Tensor], Tensor], says: Callable[[Tensor], Tensor]
) -> None:
    assert meant(mask_of(values)) == says(values).tolist()


def test_whole_numbers_below_zero() -> None:
    assert meant(is_negative(torch.tensor([0, 1, -1, 2**31 - 1, -(2**31)], dtype=torch.int32))) == [
        False,
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("least", [0.0, 1e-45, 0.5, 1.0, 65504.0, float("inf")])
def test_what_reaches_a_magnitude(values: Tensor, as_there: bool, least: float) -> None:
    given = torch.tensor(least) if as_there else float_bits(least)
    magnitudes, index = values.float().abs(), torch.arange(len(values), dtype=torch.int32)
    assert meant(reaches(values, given)) == (magnitudes >= least).tolist()
    for place in (-(2**31), 0, 3, 100):
        expected = (magnitudes > least) | ((magnitudes == least) & (index >= place))
        assert meant(reaches(values, given, index, place)) == expected.tolist()


def test_what_a_mask_does_not_mean_is_zero(values: Tensor, as_there: bool) -> None:
    mask = is_positive(values)
    kept = where(mask, values)
    assert kept.dtype == values.dtype
    assert kept.tolist() == [max(value, 0.0) for value in values.tolist()]
    one = torch.ones((), dtype=values.dtype)
    assert where(mask, one).tolist() == (values >= 0).to(values.dtype).tolist()
    assert either(mask, kept, values).tolist() == values.tolist()


def test_a_mask_of_one_width_chooses_among_numbers_of_another() -> None:
    mask = is_negative(torch.tensor([-5, 5], dtype=torch.int32))
    assert where(mask, torch.tensor([1.5, 2.5], dtype=torch.bfloat16)).tolist() == [1.5, 0.0]
