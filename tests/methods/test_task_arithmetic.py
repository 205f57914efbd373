"""Sums of task vectors against numbers worked out by hand."""

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, no_noise
from evo_merge.methods.task_arithmetic import TaskArithmetic

BASE, SOURCES = [1.0, 1.0], [[2.0, 1.0], [1.0, -3.0]]  # task vectors [1, 0] and [0, -4]


def merge(method: TaskArithmetic, weight: list[float]) -> Tensor:
    tensors = AlignedTensors(torch.tensor(SOURCES), torch.tensor(BASE))
    return method.merge(tensors, None, no_noise, weight=torch.tensor(weight))


def test_weighted_task_vectors_are_added_to_the_base() -> None:
    assert merge(TaskArithmetic(), [0.5, 0.25]).tolist() == [1.5, 0.0]


def test_a_negative_weight_forgets_the_task() -> None:
    assert merge(TaskArithmetic(), [-1.0, 0.5]).tolist() == [0.0, -1.0]


def test_normalising_divides_by_the_sum_of_the_weights() -> None:
    # [0.25, -2] / 0.5
    assert merge(TaskArithmetic(normalize=True), [0.25, 0.25]).tolist() == [1.5, -1.0]


def test_weights_that_sum_to_zero_leave_the_weighted_sum() -> None:
    assert merge(TaskArithmetic(normalize=True), [0.5, -0.5]).tolist() == [1.5, 3.0]
    assert merge(TaskArithmetic(normalize=True), [0.0, 0.0]).tolist() == BASE
