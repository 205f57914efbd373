"""One NaN or infinity is found wherever it lies, in every dtype."""

import math

import pytest
import torch

from evo_merge.models.finite import is_finite


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 4095, 70_000, 99_999])
def test_one_bad_entry_is_found(dtype: torch.dtype, bad: float, place: int) -> None:
    tensor = torch.linspace(-3.0, 3.0, 100_000).to(dtype)
    assert is_finite(tensor)
    tensor[place] = bad
    assert not is_finite(tensor)
    assert not is_finite(tensor.view(100, 1000).t())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_largest_numbers_are_finite(dtype: torch.dtype) -> None:
    """Though their sum would not be."""
    assert is_finite(torch.full((1000,), torch.finfo(dtype).max, dtype=dtype))


@pytest.mark.parametrize("tensor", [torch.zeros(0), torch.tensor(1.0), torch.tensor([1, 2]), torch.tensor([True])])
def test_nothing_one_number_and_whole_numbers_are_finite(tensor: torch.Tensor) -> None:
    assert is_finite(tensor)
