"""Random thinning, then TIES' vote: by hand with noise that is given, and against a loop over entries."""

import pytest
import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors
from evo_merge.methods.dare_ties import DareTies


def merge(
    method: DareTies, vectors: list[list[float]], noise: list[list[float]], weight: list[float], density: list[float]
) -> list[float]:
    sources = torch.tensor(vectors)
    merged: Tensor = method.merge(
        AlignedTensors(sources, torch.zeros(sources.shape[1])),
        None,
        lambda source: torch.tensor(noise[source]),
        weight=torch.tensor(weight),
        density=torch.tensor(density),
    )
    values: list[float] = merged.tolist()
    return values


def test_survivors_vote_and_the_agreeing_ones_are_summed() -> None:
    vectors = [[1.0, -4.0, 2.0], [3.0, 1.0, -8.0], [-1.0, 1.0, 5.0]]
    noise = [[0.1, 0.9, 0.2], [0.3, 0.4, 0.6], [0.0, 0.1, 0.4]]
    # Below 0.5, doubled: [2, 0, 4], [6, 2, 0], [-2, 2, 10]; votes 6, 4, 14, all positive.
    assert merge(DareTies(), vectors, noise, [1.0] * 3, [0.5] * 3) == [8.0, 4.0, 14.0]


def test_normalising_divides_by_the_weights_of_the_agreeing_entries() -> None:
    # 2*1 and 1*3 agree, -1*1 does not: (2*1 + 1*3) / (2 + 1).
    found = merge(DareTies(normalize=True), [[1.0], [3.0], [-1.0]], [[0.0]] * 3, [2.0, 1.0, 1.0], [1.0] * 3)
    assert found == pytest.approx([5 / 3])


def test_agreeing_weights_that_sum_to_zero_leave_the_sum() -> None:
    assert merge(DareTies(normalize=True), [[4.0], [-2.0]], [[0.0]] * 2, [0.5, -0.5], [1.0] * 2) == [3.0]


def test_a_negative_weight_flips_the_vote() -> None:
    assert merge(DareTies(), [[2.0], [3.0]], [[0.0]] * 2, [1.0, 1.0], [1.0] * 2) == [5.0]
    assert merge(DareTies(), [[2.0], [3.0]], [[0.0]] * 2, [1.0, -1.0], [1.0] * 2) == [-3.0]


def test_without_rescaling_survivors_stay_as_they_are() -> None:
    assert merge(DareTies(rescale="none"), [[3.0, 3.0]], [[0.2, 0.3]], [1.0], [0.25]) == [3.0, 0.0]


def test_a_density_of_zero_drops_the_source_without_dividing_by_it() -> None:
    assert merge(DareTies(), [[1.0], [-9.0]], [[0.0]] * 2, [1.0, 1.0], [1.0, 0.0]) == [1.0]


def test_dropped_entries_do_not_vote() -> None:
    assert merge(DareTies(), [[1.0], [-9.0]], [[0.1], [0.7]], [1.0, 1.0], [0.5, 0.5]) == [2.0]


def test_an_unknown_rescale_is_named_with_the_choices() -> None:
    with pytest.raises(ValueError, match="rescale must be one of density, norm, none, got 'l1'"):
        DareTies(rescale="l1")


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_a_plain_implementation_gives_the_same(seed: int, normalize: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors, noise = torch.randn(3, 40, generator=generator), torch.rand(3, 40, generator=generator)
    weight, density = torch.rand(3, generator=generator).tolist(), torch.rand(3, generator=generator).tolist()
    expected = []
    for i in range(40):
        votes = [
            w * (v / p if u < p else 0.0)
            for w, p, v, u in zip(weight, density, vectors[:, i].tolist(), noise[:, i].tolist(), strict=True)
        ]
        sign = 1 if sum(votes) >= 0 else -1
        agreeing = [(w, vote) for w, vote in zip(weight, votes, strict=True) if vote * sign > 0]
        share = sum(w for w, _ in agreeing) if normalize and agreeing else 1.0
        expected.append(sum(vote for _, vote in agreeing) / share)
    found = merge(DareTies(normalize=normalize), vectors.tolist(), noise.tolist(), weight, density)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-5, atol=1e-6)
