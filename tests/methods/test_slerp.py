"""Spherical interpolation against angles known from geometry."""

import math

import pytest
import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, no_noise
from evo_merge.methods.slerp import Slerp


def merge(first: list[float], second: list[float], t: float) -> Tensor:
    tensors = AlignedTensors(torch.tensor([first, second]), None)
    return Slerp().merge(tensors, Slerp().prepare(tensors), no_noise, t=torch.tensor(t))


def test_halfway_between_two_axes_is_the_diagonal() -> None:
    torch.testing.assert_close(merge([1.0, 0.0], [0.0, 1.0], 0.5), torch.tensor([math.sqrt(0.5), math.sqrt(0.5)]))


def test_a_third_of_a_right_angle_is_thirty_degrees() -> None:
    expected = torch.tensor([math.cos(math.radians(30)), math.sin(math.radians(30))])
    torch.testing.assert_close(merge([1.0, 0.0], [0.0, 1.0], 1 / 3), expected)


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_the_ends_are_the_sources(t: float) -> None:
    first, second = [1.0, 2.0, -1.0], [0.5, -3.0, 2.0]
    torch.testing.assert_close(merge(first, second, t), torch.tensor(second if t else first), rtol=0, atol=1e-6)


def test_lengths_are_mixed_along_with_directions() -> None:
    # Two axes of lengths 1 and 4: sin(45 deg) of each.
    torch.testing.assert_close(merge([1.0, 0.0], [0.0, 4.0], 0.5), torch.tensor([1.0, 4.0]) * math.sqrt(0.5))


def test_nearly_parallel_tensors_are_mixed_along_the_line() -> None:
    first, second = [1.0, 0.0], [1.0, 0.02]  # cosine 0.9998
    torch.testing.assert_close(merge(first, second, 0.25), torch.tensor([1.0, 0.005]), rtol=0, atol=1e-7)


def test_opposite_tensors_are_mixed_along_the_line() -> None:
    torch.testing.assert_close(merge([1.0, 1.0], [-1.0, -1.0], 0.25), torch.tensor([0.5, 0.5]))


def test_a_tensor_of_zeros_has_no_direction_and_gives_no_nan() -> None:
    # The cosine counts as 0, a right angle: sin(45 deg) of the other.
    torch.testing.assert_close(merge([0.0, 0.0], [0.0, 2.0], 0.5), torch.tensor([0.0, 2.0]) * math.sqrt(0.5))
    assert merge([0.0, 0.0], [0.0, 0.0], 0.5).tolist() == [0.0, 0.0]


def test_the_angle_is_that_of_the_whole_tensor() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 8, 9, generator=generator)
    tensors = AlignedTensors(torch.stack([first, second]), None)
    # Independently: two vectors in float64, by the formula of Shoemake.
    a, b = first.flatten().double(), second.flatten().double()
    angle = torch.acos((a / a.norm()) @ (b / b.norm()))
    expected = (torch.sin(0.7 * angle) * a + torch.sin(0.3 * angle) * b) / torch.sin(angle)
    merged = Slerp().merge(tensors, Slerp().prepare(tensors), no_noise, t=torch.tensor(0.3))
    torch.testing.assert_close(merged.double(), expected.reshape(8, 9), rtol=1e-5, atol=1e-6)
