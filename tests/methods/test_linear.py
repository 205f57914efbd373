"""Weighted averages against numbers worked out by hand."""

import pytest
import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, as_parameter, no_noise
from evo_merge.methods.linear import Linear


def merge(method: Linear, sources: list[list[float]], weight: list[float]) -> Tensor:
    return method.merge(AlignedTensors(torch.tensor(sources), None), None, no_noise, weight=torch.tensor(weight))


def test_the_average_is_by_weight() -> None:
    # (1*1 + 3*5) / 4 = 4, (1*2 + 3*(-2)) / 4 = -1
    assert merge(Linear(), [[1.0, 2.0], [5.0, -2.0]], [1.0, 3.0]).tolist() == [4.0, -1.0]


def test_without_normalising_the_weights_are_taken_as_they_are() -> None:
    assert merge(Linear(normalize=False), [[1.0, 2.0], [5.0, -2.0]], [1.0, 3.0]).tolist() == [16.0, -4.0]


def test_one_source_of_weight_one_comes_out_bit_for_bit() -> None:
    source = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    merged = Linear().merge(AlignedTensors(source[None], None), None, no_noise, weight=torch.ones(1))
    assert torch.equal(merged, source)


def test_a_negative_weight_takes_away() -> None:
    # (2*3 - 1*1) / (2 - 1) = 5
    assert merge(Linear(), [[3.0], [1.0]], [2.0, -1.0]).tolist() == [5.0]


@pytest.mark.parametrize("weight", [[0.0, 0.0, 0.0], [0.5, -0.5, 0.0], [0.1, 0.2, -0.3]])
def test_weights_that_sum_to_zero_leave_the_weighted_sum(weight: list[float]) -> None:
    # 0.1 + 0.2 - 0.3 is 6e-17, which counts as 0.
    tensors = AlignedTensors(torch.tensor([[3.0], [1.0], [2.0]]), None)
    merged = Linear().merge(tensors, None, no_noise, weight=as_parameter(tuple(weight)))
    assert float(merged) == pytest.approx(weight[0] * 3 + weight[1] * 1 + weight[2] * 2, abs=1e-6)
