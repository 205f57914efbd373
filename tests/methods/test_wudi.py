"""WUDI's minimiser against a least-squares solver and against the authors' steps of Adam, and what the paper claims."""

import pytest
import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, arguments, no_noise
from evo_merge.methods.wudi import Wudi


def random_vectors(n_models: int = 3, rows: int = 12, columns: int = 9, rank: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    rank = columns if rank is None else rank
    left = torch.randn(n_models, rows, rank, generator=generator)
    return 0.1 * left @ torch.randn(n_models, rank, columns, generator=generator)


def merged(vectors: Tensor, method: Wudi | None = None, **values: tuple[float, ...] | float) -> Tensor:
    """What is added to a base of zeros."""
    wudi = method or Wudi(rtol=1e-12)
    tensors = AlignedTensors(vectors, torch.zeros_like(vectors[0]))
    return wudi.merge(tensors, wudi.prepare(tensors), no_noise, **arguments(wudi, values, len(vectors)))


def loss(matrix: Tensor, vectors: Tensor) -> Tensor:
    energies = vectors.square().sum(dim=(1, 2), keepdim=True)
    return (((matrix - vectors) @ vectors.transpose(1, 2)).square() / energies).sum()


def with_a_solver(vectors: Tensor, targets: Tensor) -> Tensor:
    """The same minimum as one system of linear equations, ``A M^T = B``, by LAPACK's least squares."""
    lengths = vectors.double().flatten(1).norm(dim=1)
    left = torch.cat([vector.double() / length for vector, length in zip(vectors, lengths, strict=True)])
    right = torch.cat(
        [vector.double() @ target.double().T / length for vector, target, length in zip(vectors, targets, lengths, strict=True)]
    )
    solution: Tensor = torch.linalg.lstsq(left, right, rcond=1e-6, driver="gelsd").solution.T
    return solution


@pytest.mark.parametrize("rank", [9, 2])  # with 2 the minimiser is one of many, and both take that of least norm
def test_it_is_the_minimiser(rank: int) -> None:
    vectors = random_vectors(rank=rank)
    torch.testing.assert_close(merged(vectors).double(), with_a_solver(vectors, vectors), rtol=1e-4, atol=1e-5)


def test_it_is_where_the_authors_adam_goes() -> None:
    vectors = random_vectors()
    exact = merged(vectors)
    matrix = torch.nn.Parameter(vectors.sum(dim=0))  # their start
    adam = torch.optim.Adam([matrix], lr=1e-2)
    distances = []
    for step in range(1500):
        if step % 500 == 0:
            distances.append(float((matrix.detach() - exact).norm()))
        value = loss(matrix, vectors)
        assert value.item() >= float(loss(exact, vectors)) * (1 - 1e-4)
        adam.zero_grad()
        value.backward()
        adam.step()
    distances.append(float((matrix.detach() - exact).norm()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.05 * distances[0]


def test_tasks_of_different_inputs_do_not_interfere() -> None:
    # The first task moves what the first four inputs do, the second the others: nothing has to be given up.
    vectors = random_vectors(n_models=2, columns=8)
    vectors[0, :, 4:] = 0.0
    vectors[1, :, :4] = 0.0
    torch.testing.assert_close(merged(vectors), vectors.sum(dim=0), rtol=1e-4, atol=1e-6)


def test_low_rank_sources_keep_what_they_do_where_their_inputs_leave_room() -> None:
    vectors = random_vectors(n_models=3, rank=2)  # six directions of nine
    found = merged(vectors)
    for vector in vectors:
        torch.testing.assert_close(found @ vector.T, vector @ vector.T, rtol=1e-3, atol=1e-5)
    assert float(loss(found, vectors)) < 1e-6 * float(loss(vectors.mean(dim=0), vectors))


def test_a_weight_multiplies_the_task_matrix_before_the_minimum_is_taken() -> None:
    vectors, weight = random_vectors(), (0.5, 2.0, -1.0)
    scaled = vectors * torch.tensor(weight)[:, None, None]
    torch.testing.assert_close(merged(vectors, weight=weight), merged(scaled), rtol=1e-4, atol=1e-5)


def test_with_weight_0_a_sources_inputs_are_answered_as_by_the_base() -> None:
    vectors = random_vectors(n_models=2, rank=2)
    found = merged(vectors, weight=(1.0, 0.0))
    torch.testing.assert_close(found @ vectors[1].T, torch.zeros(12, 12), rtol=0, atol=1e-5)
    torch.testing.assert_close(found @ vectors[0].T, vectors[0] @ vectors[0].T, rtol=1e-3, atol=1e-5)


def test_one_source_is_itself_and_lambda_multiplies() -> None:
    vectors = random_vectors(n_models=1)
    torch.testing.assert_close(merged(vectors), vectors[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(merged(vectors, **{"lambda": 0.5}), 0.5 * vectors[0], rtol=1e-4, atol=1e-6)


def test_what_is_no_matrix_gets_the_mean() -> None:
    vectors = torch.tensor([[1.0, 2.0], [3.0, -2.0]])
    assert merged(vectors).tolist() == [2.0, 0.0]
    assert merged(vectors, weight=(2.0, 0.0)).tolist() == [1.0, 2.0]


def test_inputs_below_the_tolerance_keep_the_base() -> None:
    vector = torch.diag(torch.tensor([1.0, 1e-2]))[None]  # energies 1 and 1e-4
    assert merged(vector, Wudi(rtol=1e-3))[1].tolist() == [0.0, 0.0]
    torch.testing.assert_close(merged(vector, Wudi(rtol=1e-6)), vector[0])
    with pytest.raises(ValueError, match="rtol must be from 0 to below 1, got 1"):
        Wudi(rtol=1.0)
