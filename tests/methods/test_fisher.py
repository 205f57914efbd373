"""Fisher-weighted averages by hand, and what the information decides."""

import pytest
import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, arguments, no_noise
from evo_merge.methods.fisher import Fisher


def merged(
    sources: Tensor, information: Tensor | None, method: Fisher | None = None, **values: tuple[float, ...]
) -> list[float]:
    fisher = method or Fisher()
    statistics = None if information is None else tuple(information)
    tensors = AlignedTensors(sources, None, statistics)
    found: list[float] = fisher.merge(tensors, None, no_noise, **arguments(fisher, values, len(sources))).tolist()
    return found


def test_entries_are_averaged_by_their_information() -> None:
    sources, information = torch.tensor([[1.0, 2.0], [5.0, 4.0]]), torch.tensor([[3.0, 0.5], [1.0, 1.5]])
    # (3*1 + 1*5) / 4 and (0.5*2 + 1.5*4) / 2
    assert merged(sources, information) == pytest.approx([2.0, 3.5])
    # (3*1 + 3*1*5) / 6 and (0.5*2 + 3*1.5*4) / 5
    assert merged(sources, information, weight=(1.0, 3.0)) == pytest.approx([3.0, 3.8])


def test_equal_information_is_the_plain_average() -> None:
    sources = torch.tensor([[1.0, 2.0], [5.0, 4.0]])
    plain = merged(sources, None, weight=(0.2, 0.6))
    assert plain == pytest.approx([4.0, 3.5])
    assert merged(sources, torch.full((2, 2), 0.3), weight=(0.2, 0.6)) == pytest.approx(plain)


def test_what_matters_to_no_source_is_the_plain_average() -> None:
    sources = torch.tensor([[1.0], [5.0]])
    assert merged(sources, torch.zeros(2, 1)) == pytest.approx([3.0])
    assert merged(sources, torch.tensor([[1e-9], [0.0]])) == pytest.approx([3.0])  # below the floor
    assert merged(sources, torch.tensor([[1e-9], [0.0]]), Fisher(floor=1e-12)) == pytest.approx([1.0], abs=0.01)


def test_what_matters_to_one_source_is_that_source() -> None:
    assert merged(torch.tensor([[1.0], [5.0]]), torch.tensor([[0.0], [10.0]])) == pytest.approx([5.0], abs=1e-5)


def test_it_is_the_maximum_of_the_sources_gaussian_posteriors() -> None:
    generator = torch.Generator().manual_seed(0)
    sources, information = torch.randn(3, 6, generator=generator), torch.rand(3, 6, generator=generator) + 0.1
    weight = torch.tensor([0.5, 1.0, 0.25])[:, None]
    point = torch.tensor(merged(sources, information, weight=(0.5, 1.0, 0.25)), requires_grad=True)
    (weight * information * (point - sources).square()).sum().backward()
    assert point.grad is not None
    torch.testing.assert_close(point.grad, torch.zeros(6), rtol=0, atol=1e-5)


def test_a_floor_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match="floor must be above 0, got 0"):
        Fisher(floor=0.0)
