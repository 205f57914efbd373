"""Trim, vote and merge: by hand, and against a plain re-implementation with sorts and loops over entries."""

import pytest
import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, no_noise
from evo_merge.methods.ties import Ties


def merge(method: Ties, base: Tensor, sources: Tensor, weight: list[float], density: list[float]) -> Tensor:
    tensors = AlignedTensors(sources, base)
    state = method.prepare(tensors)
    return method.merge(tensors, state, no_noise, weight=torch.tensor(weight), density=torch.tensor(density))


def merge_vectors(method: Ties, vectors: list[list[float]], weight: list[float], density: list[float]) -> list[float]:
    sources = torch.tensor(vectors)
    merged: list[float] = merge(method, torch.zeros(sources.shape[1]), sources, weight, density).tolist()
    return merged


def test_the_smaller_half_is_trimmed() -> None:
    assert merge_vectors(Ties(), [[4.0, -1.0, 2.0, -3.0]], [1.0], [0.5]) == [4.0, 0.0, 0.0, -3.0]


def test_only_entries_that_agree_with_the_vote_are_averaged() -> None:
    # Sums 2+4-1 = 5 and -2+1-3 = -4: the third source loses the first entry, the second source the second.
    vectors = [[2.0, -2.0], [4.0, 1.0], [-1.0, -3.0]]
    assert merge_vectors(Ties(), vectors, [1.0, 1.0, 1.0], [1.0] * 3) == [3.0, -2.5]


def test_the_average_is_by_weight() -> None:
    # (1*2 + 3*4) / (1 + 3)
    assert merge_vectors(Ties(), [[2.0], [4.0]], [1.0, 3.0], [1.0, 1.0]) == [3.5]


def test_the_default_dtype_is_no_part_of_it() -> None:  # transformers changes it for as long as it makes a model
    sources, weight = torch.tensor([[2.0], [4.0]]), torch.tensor([0.1, 0.3]).tolist()
    expected = merge(Ties(), torch.zeros(1), sources, weight, [1.0, 1.0])
    torch.set_default_dtype(torch.bfloat16)
    try:
        method, tensors = Ties(), AlignedTensors(sources, torch.zeros(1, dtype=torch.float32))
        numbers = {"weight": torch.tensor(weight, dtype=torch.float64), "density": torch.ones(2, dtype=torch.float64)}
        merged = method.merge(tensors, method.prepare(tensors), no_noise, **numbers)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(merged, expected)


def test_without_normalising_agreeing_entries_are_summed() -> None:
    assert merge_vectors(Ties(normalize=False), [[2.0], [4.0], [-1.0]], [1.0, 3.0, 1.0], [1.0] * 3) == [14.0]


def test_a_heavy_source_outvotes_two_light_ones() -> None:
    assert merge_vectors(Ties(), [[1.0], [1.0], [-1.0]], [0.2, 0.2, 0.5], [1.0] * 3) == [-1.0]


def test_a_negative_weight_flips_the_vote() -> None:
    # -1 * 3 = -3 outvotes 1 * 2; the mean over its weight is -3 / -1 = 3, in the direction of the source itself.
    assert merge_vectors(Ties(normalize=False), [[2.0], [3.0]], [1.0, -1.0], [1.0, 1.0]) == [-3.0]
    assert merge_vectors(Ties(), [[2.0], [3.0]], [1.0, -1.0], [1.0, 1.0]) == [3.0]


def test_a_vote_of_zero_counts_as_positive() -> None:
    assert merge_vectors(Ties(), [[2.0], [-2.0]], [1.0, 1.0], [1.0, 1.0]) == [2.0]


def test_agreeing_weights_that_sum_to_zero_leave_the_sum() -> None:
    # 0.5*4 and -0.5*(-2) agree on plus; their weights sum to 0.
    assert merge_vectors(Ties(), [[4.0], [-2.0]], [0.5, -0.5], [1.0, 1.0]) == [3.0]


def test_a_density_of_zero_drops_the_source() -> None:
    assert merge_vectors(Ties(), [[2.0, 2.0], [-9.0, 9.0]], [1.0, 1.0], [1.0, 0.0]) == [2.0, 2.0]


def test_the_scale_of_the_weights_has_no_effect_when_normalised() -> None:
    generator = torch.Generator().manual_seed(0)
    base, sources = torch.randn(50, generator=generator), torch.randn(3, 50, generator=generator)
    merged = [merge(Ties(), base, sources, [s * w for w in (0.3, 0.5, 0.7)], [0.5] * 3) for s in (1.0, 2.0)]
    torch.testing.assert_close(*merged)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_a_plain_implementation_gives_the_same(seed: int, normalize: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    base, sources = torch.randn(4, 9, generator=generator), torch.randn(3, 4, 9, generator=generator)
    weight, density = torch.rand(3, generator=generator).tolist(), torch.rand(3, generator=generator).tolist()
    vectors = []
    for source, share in zip(sources, density, strict=True):
        vector = (source - base).flatten().tolist()
        kept = sorted(range(36), key=lambda i, v=vector: -abs(v[i]))[: max(1, int(share * 36))]
        vectors.append([value if i in kept else 0.0 for i, value in enumerate(vector)])
    expected = []
    for i, start in enumerate(base.flatten().tolist()):
        votes = [w * vector[i] for w, vector in zip(weight, vectors, strict=True)]
        sign = 1 if sum(votes) >= 0 else -1
        agreeing = [(w, vote) for w, vote in zip(weight, votes, strict=True) if vote * sign > 0]
        share = sum(w for w, _ in agreeing) if normalize and agreeing else 1.0
        expected.append(start + sum(vote for _, vote in agreeing) / share)
    merged = merge(Ties(normalize=normalize), base, sources, weight, density)
    torch.testing.assert_close(merged.flatten(), torch.tensor(expected), rtol=1e-5, atol=1e-6)
