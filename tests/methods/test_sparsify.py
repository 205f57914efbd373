"""The trim by look-up equals a plain sort; the thinning by chance keeps what it should."""

import random

import pytest
import torch
from torch import Tensor

from evo_merge.methods import magnitudes, parts
from evo_merge.methods.base import AlignedTensors, arguments, as_parameter, method_from_recipe
from evo_merge.methods.dare_linear import DareLinear
from evo_merge.methods.entrywise import Thinned
from evo_merge.methods.magnitudes import MagnitudeOrder, TaskVectors
from evo_merge.methods.noise import EntryNoise
from evo_merge.methods.sparsify import banded, keep_largest, trimmed


def task_vectors(vectors: Tensor) -> TaskVectors:
    return TaskVectors(tuple(vector.flatten() for vector in vectors), None, vectors.dtype)


def above(vector: Tensor, thinned: Thinned) -> Tensor:
    """What is kept, by comparing magnitude and place with the boundaries."""
    magnitude, place = vector.float().abs().flatten(), torch.arange(vector.numel())
    low, high = thinned.low, thinned.high
    kept = (magnitude > low.magnitude) | ((magnitude == low.magnitude) & (place >= low.index))
    outlier = (magnitude > high.magnitude) | ((magnitude == high.magnitude) & (place >= high.index))
    return (kept & ~outlier).reshape(vector.shape)


def trim(vectors: Tensor, density: list[float]) -> Tensor:
    """All of the equal ones, by selection, by selection again, and by the sorted order."""
    shares = torch.tensor(density, dtype=torch.float64)
    order, kept = MagnitudeOrder(), keep_largest(vectors, shares, "none", "all")
    for _ in range(4):
        for vector, thinned, expected in zip(vectors, trimmed(task_vectors(vectors), shares, order), kept, strict=True):
            assert torch.equal(torch.where(vector.float().abs() >= thinned.low.magnitude, vector, 0.0), expected)
    return kept


def sorted_trim(vector: Tensor, density: float) -> Tensor:
    """By a plain sort; entries as large as the smallest kept one are kept too, as documented."""
    if density <= 0 or vector.numel() == 0:
        return torch.zeros_like(vector)
    magnitudes = sorted((abs(value) for value in vector.flatten().tolist()), reverse=True)
    smallest = magnitudes[max(1, int(density * vector.numel())) - 1] if density < 1 else 0.0
    return torch.where(vector.double().abs() >= smallest, vector, 0.0)


def random_vector(rng: random.Random, shape: tuple[int, ...]) -> Tensor:
    """Of very different scales, with ties in magnitude, zeros and denormals."""
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    vector = torch.randn(shape, generator=generator) * 10.0 ** rng.choice([-44, -39, -20, -3, 0, 3, 20])
    kind = rng.choice(["plain", "ties", "zeros", "mixed"])
    if kind == "ties":
        vector = vector.sign() * rng.choice([1.0, 0.25]) * torch.randint(0, 4, shape, generator=generator)
    elif kind == "zeros":
        vector = torch.where(torch.rand(shape, generator=generator) < 0.7, 0.0, vector)
    elif kind == "mixed":
        vector = torch.where(torch.rand(shape, generator=generator) < 0.5, torch.full(shape, 1e-42), vector)
    return vector


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_keeping_the_largest_equals_a_plain_sort(dtype: torch.dtype) -> None:
    rng = random.Random(0)
    for _ in range(150):
        shape = rng.choice([(1,), (2,), (17,), (5, 6), (3, 4, 5), (300,)])
        vectors = torch.stack([random_vector(rng, shape) for _ in range(3)]).clamp(-6e4, 6e4).to(dtype)
        density = [rng.choice([0.0, 1e-9, 0.5, 1.0, rng.random()]) for _ in range(3)]
        expected = torch.stack([sorted_trim(vector, share) for vector, share in zip(vectors, density, strict=True)])
        found = trim(vectors, density)
        assert found.dtype == dtype
        assert torch.equal(found, expected)


def test_at_least_one_entry_is_kept_above_density_zero() -> None:
    assert trim(torch.tensor([[1.0, -5.0, 2.0]]), [0.01]).tolist() == [[0.0, -5.0, 0.0]]


def test_the_number_kept_is_the_whole_part_of_the_share() -> None:
    vectors = torch.randperm(10, generator=torch.Generator().manual_seed(0))[None].float() + 1
    for share, n_kept in ((0.29, 2), (0.3, 3), (0.5, 5), (0.99, 9), (1.0, 10)):
        assert int((trim(vectors, [share]) != 0).sum()) == n_kept


@pytest.mark.parametrize(("share", "n", "n_kept"), [(0.7, 10, 7), (0.9, 10, 9), (0.33, 100, 33), (0.77, 4100, 3157)])
def test_a_share_that_gives_a_whole_number_loses_no_entry_to_rounding(share: float, n: int, n_kept: int) -> None:
    vectors = torch.randperm(n, generator=torch.Generator().manual_seed(0))[None].float() + 1
    kept = keep_largest(vectors, as_parameter((share,)), "none", "all")
    assert int((kept != 0).sum()) == n_kept


def test_equal_magnitudes_are_kept_or_trimmed_together() -> None:
    # The second largest magnitude is 2, which three entries have.
    assert trim(torch.tensor([[2.0, -2.0, 2.0, 5.0, 1.0]]), [0.4]).tolist() == [[2.0, -2.0, 2.0, 5.0, 0.0]]


def test_denormal_entries_are_told_apart_by_size() -> None:
    vectors = torch.tensor([[1e-45, 3e-45, -6e-45, 0.0]])
    assert trim(vectors, [0.5]).tolist() == [[0.0, *vectors[0, 1:].tolist()]]


def test_higher_densities_keep_what_lower_ones_kept() -> None:
    vectors = torch.randn(1, 500, generator=torch.Generator().manual_seed(2))
    kept = [trim(vectors, [share]) != 0 for share in (0.1, 0.2, 0.6)]
    assert (kept[1] | ~kept[0]).all()
    assert (kept[2] | ~kept[1]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_survivors_of_chance_are_divided_by_the_density(dtype: torch.dtype) -> None:
    noise = torch.tensor([0.0, 0.2499, 0.25, 0.9])
    vectors = torch.tensor([[1.0, -2.0, 3.0, 4.0]], dtype=dtype)
    tensors = AlignedTensors(vectors, torch.zeros_like(noise, dtype=dtype))
    method = DareLinear()
    one, share = torch.ones(1), torch.tensor([0.25])
    dropped = method.merge(tensors, method.prepare(tensors), lambda _: noise, weight=one, density=share)
    assert dropped.tolist() == [4.0, -8.0, 0.0, 0.0]
    assert dropped.dtype == dtype


@pytest.mark.parametrize("counted", [0, 1 << 18])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_band_has_as_many_entries_as_its_shares_say_and_the_largest_of_them(
    dtype: torch.dtype, counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(magnitudes, "_COUNTED", counted)
    monkeypatch.setattr(parts, "_PART", 19)
    rng = random.Random(1)
    for _ in range(100):
        vector = random_vector(rng, (rng.choice([1, 2, 17, 300]),)).clamp(-6e4, 6e4).to(dtype)
        share, gamma = rng.choice([0.0, 0.3, 1.0, rng.random()]), rng.choice([0.0, 0.1, 1.0, rng.random()])
        # By a plain sort; of equal entries the last are the largest.
        descending = sorted(range(len(vector)), key=lambda i, v=vector: (abs(float(v[i])), i), reverse=True)
        n_kept = int(share * len(vector))
        upper = min(len(vector), n_kept + int(gamma * len(vector)))
        order = MagnitudeOrder()
        for _ in range(3):  # by selection, and by the sorted order
            thinned = banded(task_vectors(vector[None]), torch.tensor([share]).double(), torch.tensor([gamma]).double(), order)
            kept = above(vector, thinned[0]).nonzero().flatten().tolist()
            assert kept == sorted(descending[upper - n_kept : upper])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["plain", "equal", "zeros"])
def test_what_is_counted_is_what_is_selected(dtype: torch.dtype, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(4)
    drawn = torch.randn(1, 70_001, generator=generator).to(dtype)
    vectors = {"plain": drawn, "equal": drawn.sign() * 0.25, "zeros": drawn * (drawn > 1.0)}[kind]
    n_kept = [1, 2, 700, 35_000, 70_000]
    found = []
    for counted in (1 << 18, 0):
        monkeypatch.setattr(magnitudes, "_COUNTED", counted)
        monkeypatch.setattr(parts, "_PART", 4096)
        orders = [(MagnitudeOrder(), n, exact) for n in n_kept for exact in (True, False)]
        found.append([order.boundaries(task_vectors(vectors), [n], exact=exact) for order, n, exact in orders])
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["dare_linear", "della_linear"])
def test_norms_beyond_what_a_half_holds_are_matched(name: str) -> None:
    n = 70_000  # twos, which sum to twice what float16 holds
    method = method_from_recipe(name, {"rescale": "norm"})
    tensors = AlignedTensors(torch.full((1, n), 2.0, dtype=torch.float16), torch.zeros(n, dtype=torch.float16))
    noise = EntryNoise(0, "a", "t")(0, n, torch.device("cpu"))
    numbers = arguments(method, {"weight": (1.0,), "density": (0.5,)}, 1)
    merged = method.merge(tensors, method.prepare(tensors), lambda source: noise, **numbers)
    assert float(merged.float().sum()) == pytest.approx(2.0 * n, rel=1e-3)
