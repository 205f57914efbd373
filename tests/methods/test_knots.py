"""KnOTS against an SVD and a plain TIES, written out; and what the alignment is for."""

import pytest
import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, arguments, no_noise
from evo_merge.methods.knots import Knots
from evo_merge.methods.noise import EntryNoise


def lora_like(n_models: int = 3, rows: int = 20, columns: int = 14, rank: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(n_models, rows, rank, generator=generator)
    return 0.1 * left @ torch.randn(n_models, rank, columns, generator=generator)


def merged(vectors: Tensor, method: Knots, noise: Noise = no_noise, **values: tuple[float, ...] | float) -> Tensor:
    """What is added to a base of zeros."""
    tensors = AlignedTensors(vectors, torch.zeros_like(vectors[0]))
    return method.merge(tensors, method.prepare(tensors), noise, **arguments(method, values, len(vectors)))


def plainly(vectors: Tensor, weight: tuple[float, ...], density: tuple[float, ...]) -> Tensor:
    """SVD of the matrices side by side; trim, vote and mean with sorts and loops over entries of S V^T; back."""
    n_models, _, columns = vectors.shape
    left, values, right = torch.linalg.svd(torch.cat(list(vectors), dim=1).double(), full_matrices=False)
    rank = int((values > 1e-5).sum())
    parts = (values[:rank, None] * right[:rank]).split(columns, dim=1)
    trimmed = []
    for part, share in zip(parts, density, strict=True):
        threshold = part.abs().flatten().sort(descending=True).values[max(1, int(share * part.numel())) - 1]
        trimmed.append(torch.where(part.abs() >= threshold, part, 0.0))
    mean = torch.zeros_like(parts[0])
    for row in range(rank):
        for column in range(columns):
            entries = [weight[i] * float(trimmed[i][row, column]) for i in range(n_models)]
            sign = 1.0 if sum(entries) >= 0 else -1.0
            agreeing = [i for i in range(n_models) if entries[i] * sign > 0]
            if agreeing:
                mean[row, column] = sum(entries[i] for i in agreeing) / sum(weight[i] for i in agreeing)
    return (left[:, :rank] @ mean).float()


@pytest.mark.parametrize(("rows", "columns"), [(20, 14), (50, 6)])  # wider and narrower than the three side by side
def test_it_is_ties_on_the_aligned_parts(rows: int, columns: int) -> None:
    vectors = lora_like(rows=rows, columns=columns)
    weight, density = (0.5, 0.7, 1.2), (0.3, 0.6, 1.0)
    found = merged(vectors, Knots(), weight=weight, density=density)
    torch.testing.assert_close(found, plainly(vectors, weight, density), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 14), (50, 6), (6, 50)])
def test_the_aligned_parts_are_the_task_matrices_in_an_orthonormal_basis(shape: tuple[int, int]) -> None:
    vectors = lora_like(rows=shape[0], columns=shape[1])
    state = Knots().prepare(AlignedTensors(vectors, torch.zeros(shape)))
    basis = state.basis
    assert basis is not None
    assert basis.shape[1] == 6  # three sources of rank 2
    torch.testing.assert_close(basis.T @ basis, torch.eye(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(basis @ state.vectors, vectors, rtol=1e-4, atol=1e-6)


def test_sources_that_do_the_same_agree_and_are_themselves() -> None:
    vectors = lora_like(n_models=1).expand(3, -1, -1)
    found = merged(vectors, Knots(), weight=(0.2, 0.5, 1.0), density=(1.0,) * 3)
    torch.testing.assert_close(found, vectors[0], rtol=1e-4, atol=1e-6)


def test_sources_that_write_to_different_outputs_do_not_meet() -> None:
    # The parts of one are 0 wherever the other has something, so that a vote takes nothing from either.
    vectors = lora_like(n_models=2)
    vectors[0, 10:] = 0.0
    vectors[1, :10] = 0.0
    found = merged(vectors, Knots(), weight=(0.5, 0.5), density=(1.0, 1.0))
    torch.testing.assert_close(found, vectors.sum(dim=0), rtol=1e-3, atol=1e-5)


def test_chance_thins_the_aligned_parts_and_keeps_their_mean() -> None:
    vectors, method = lora_like(n_models=1), Knots(thin="chance", normalize=False)

    def noise_of(seed: int) -> Noise:
        return lambda source: EntryNoise(seed, f"{source}", "t")(0, 280, torch.device("cpu")).reshape(20, 14)

    draws = torch.stack([merged(vectors, method, noise_of(seed), weight=(1.0,), density=(0.5,)) for seed in range(400)])
    assert not torch.equal(draws[0], draws[1])
    # Of 400 draws that are 0 or twice as large, the mean lies within a few twentieths.
    assert float((draws.mean(dim=0) - vectors[0]).norm()) < 0.15 * float(vectors[0].norm())
    torch.testing.assert_close(
        merged(vectors, method, noise_of(0), weight=(1.0,), density=(1.0,)), vectors[0], rtol=1e-4, atol=1e-6
    )


def test_what_is_no_matrix_is_merged_by_ties() -> None:
    assert merged(torch.tensor([[4.0, -1.0], [2.0, 3.0]]), Knots(), weight=(1.0, 1.0), density=(1.0, 1.0)).tolist() == [
        3.0,
        3.0,
    ]


def test_singular_values_up_to_the_floor_count_as_none() -> None:
    vectors = torch.diag(torch.tensor([1.0, 1e-3]))[None]
    assert merged(vectors, Knots(floor=1e-2), weight=(1.0,), density=(1.0,))[1].tolist() == [0.0, 0.0]
    torch.testing.assert_close(merged(vectors, Knots(), weight=(1.0,), density=(1.0,)), vectors[0])


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="thin must be one of magnitude, chance, got 'ties'"):
        Knots(thin="ties")
    with pytest.raises(ValueError, match="floor must be 0 or above, got -1"):
        Knots(floor=-1)
