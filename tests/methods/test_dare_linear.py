"""Random thinning, then a sum: by hand with noise that is given, and in expectation."""

import itertools

import pytest
import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors
from evo_merge.methods.dare_linear import DareLinear
from evo_merge.methods.noise import EntryNoise
from evo_merge.methods.task_arithmetic import TaskArithmetic

NOISE = torch.tensor([[0.1, 0.4, 0.6, 0.9], [0.7, 0.2, 0.3, 0.0]])
VECTORS = torch.tensor([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]])


def merge(method: DareLinear, weight: list[float], density: list[float], noise: Tensor = NOISE) -> list[float]:
    tensors = AlignedTensors(VECTORS, torch.zeros(4))
    merged: list[float] = method.merge(
        tensors, None, lambda source: noise[source], weight=torch.tensor(weight), density=torch.tensor(density)
    ).tolist()
    return merged


def test_survivors_are_divided_by_the_density() -> None:
    # Noise below 0.5 keeps [1, 2, -, -] and [-, 20, 30, 40]; twice that, times the weights 1 and 0.5.
    assert merge(DareLinear(), [1.0, 0.5], [0.5, 0.5]) == [2.0, 4.0 + 20.0, 30.0, 40.0]


def test_without_rescaling_survivors_stay_as_they_are() -> None:
    assert merge(DareLinear(rescale="none"), [1.0, 0.5], [0.5, 0.5]) == [1.0, 2.0 + 10.0, 15.0, 20.0]


def test_every_source_has_its_own_density() -> None:
    # 0.25 keeps [1, -, -, -] times 4; 1 keeps everything.
    assert merge(DareLinear(), [1.0, 0.5], [0.25, 1.0]) == [4.0 + 5.0, 10.0, 15.0, 20.0]


def test_a_density_of_zero_drops_the_source_without_dividing_by_it() -> None:
    assert merge(DareLinear(), [1.0, 0.5], [1.0, 0.0]) == [1.0, 2.0, 3.0, 4.0]


def test_normalising_divides_by_the_sum_of_the_weights() -> None:
    assert merge(DareLinear(normalize=True), [1.0, 1.0], [1.0, 1.0]) == [5.5, 11.0, 16.5, 22.0]


def test_weights_that_sum_to_zero_leave_the_weighted_sum() -> None:
    assert merge(DareLinear(normalize=True), [0.5, -0.5], [1.0, 1.0]) == [-4.5, -9.0, -13.5, -18.0]


def test_an_unknown_rescale_is_named_with_the_choices() -> None:
    with pytest.raises(ValueError, match="rescale must be one of density, norm, none, got 'l1'"):
        DareLinear(rescale="l1")


def entry_noise(n: int) -> list[Tensor]:
    return [EntryNoise(5, name, "tensor")(0, n, torch.device("cpu")) for name in ("a", "b")]


def test_what_survives_a_low_density_survives_a_higher_one() -> None:
    n = 5000
    vectors = torch.ones(2, n)
    survivors = []
    for density in (0.1, 0.3, 0.5, 0.9):
        noise = entry_noise(n)
        merged = DareLinear().merge(
            AlignedTensors(vectors, torch.zeros(n)),
            None,
            lambda source, noise=noise: noise[source],
            weight=torch.tensor([1.0, 0.0]),
            density=torch.full((2,), density),
        )
        survivors.append(merged != 0)
    for lower, higher in itertools.pairwise(survivors):
        assert (higher | ~lower).all()
        assert higher.sum() > lower.sum()


@pytest.mark.parametrize("density", [0.1, 0.5, 0.8])
def test_the_expectation_is_that_of_the_whole_task_vectors(density: float) -> None:
    n = 200_000
    noise = entry_noise(n)
    weight = torch.tensor([0.4, 0.6])
    tensors = AlignedTensors(torch.tensor([[3.0], [-1.0]]).expand(2, n), torch.ones(n))
    thinned = DareLinear().merge(tensors, None, lambda s: noise[s], weight=weight, density=torch.full((2,), density))
    whole = TaskArithmetic().merge(tensors, None, lambda s: noise[s], weight=weight)
    # One entry's variance is at most (w x)^2 (1/p - 1) summed over the sources; five standard errors of the mean.
    variance = ((0.4 * 2) ** 2 + (0.6 * 2) ** 2) * (1 / density - 1)
    assert abs(float(thinned.mean() - whole.mean())) < 5 * (variance / n) ** 0.5
