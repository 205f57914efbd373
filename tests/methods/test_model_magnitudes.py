"""Thresholds over all tensors equal torch.kthvalue of the tensors put together."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from evo_merge.methods import parts
from evo_merge.methods.magnitudes import ALL_ENTRIES, NO_ENTRY, TaskVectors
from evo_merge.methods.model_magnitudes import ModelMagnitudes, ModelThresholds

SHAPES = [(40, 30), (0,), (), (7,), (300,), (1,)]
DENSITIES = (1e-9, 0.001, 0.1, 0.35, 0.5, 0.77, 0.999)


def tensors_of(kind: str, seed: int) -> list[Tensor]:
    """Tensors of very different scales, as a model's are."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(shape, generator=generator) * 10.0**place for place, shape in enumerate(SHAPES, start=-3)]
    if kind == "ties":
        return [tensor.sign() * torch.randint(0, 3, tensor.shape, generator=generator) for tensor in drawn]
    if kind == "zeros":
        return [torch.where(torch.rand(tensor.shape, generator=generator) < 0.7, 0.0, tensor) for tensor in drawn]
    return [tensor * 1e-42 for tensor in drawn] if kind == "denormals" else drawn


def magnitudes_of(tensors: list[Tensor], dtype: torch.dtype = torch.float32) -> ModelMagnitudes:
    def through() -> Iterator[TaskVectors]:
        for tensor in tensors:
            yield TaskVectors((tensor.flatten(),), torch.full((tensor.numel(),), 0.25, dtype=tensor.dtype), dtype)

    return ModelMagnitudes(through, dtype)


def kth(tensors: list[Tensor], density: float, dtype: torch.dtype = torch.float32) -> float:
    """The smallest magnitude that is kept, by torch, of all entries put together."""
    together = torch.cat([(tensor.flatten().to(dtype) - 0.25).float().abs() for tensor in tensors])
    n_kept = max(1, int(density * together.numel()))
    return float(together.kthvalue(together.numel() - n_kept + 1).values)


@pytest.mark.parametrize("kind", ["plain", "ties", "zeros", "denormals"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("piece", [13, 1 << 18])
def test_a_threshold_is_that_of_all_tensors_put_together(
    kind: str, dtype: torch.dtype, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_PART", piece)
    tensors = tensors_of(kind, 0)
    magnitudes = magnitudes_of(tensors, dtype)
    together = magnitudes.thresholds(DENSITIES)
    for density in DENSITIES:
        assert together[density].magnitude == kth(tensors, density, dtype)
        assert magnitudes.thresholds([density])[density] == together[density]  # from what is known
        assert magnitudes_of(tensors, dtype).thresholds([density])[density] == together[density]


def test_denormal_task_vectors_are_told_apart() -> None:
    tensors = [torch.tensor([1e-45, -6e-45]), torch.tensor([3e-45, 0.0])]
    magnitudes = ModelMagnitudes(lambda: (TaskVectors((tensor,), None, torch.float32) for tensor in tensors), torch.float32)
    assert magnitudes.thresholds([0.5])[0.5].magnitude == float(tensors[1][0])


def test_the_ends_keep_nothing_and_everything() -> None:
    found = magnitudes_of(tensors_of("plain", 0)).thresholds([0.0, 1.0])
    assert found == {0.0: NO_ENTRY, 1.0: ALL_ENTRIES}
    assert magnitudes_of([]).thresholds([0.5]) == {0.5: ALL_ENTRIES}


def test_the_tensors_are_gone_through_only_for_what_is_not_known() -> None:
    tensors, passes = tensors_of("plain", 0), 0

    def through() -> Iterator[TaskVectors]:
        nonlocal passes
        passes += 1
        return (TaskVectors((tensor.flatten(),), None, torch.float32) for tensor in tensors)

    magnitudes = ModelMagnitudes(through, torch.float32)
    magnitudes.thresholds(DENSITIES)
    assert passes == 2  # bins, and all that DENSITIES lie in
    magnitudes.thresholds([*DENSITIES, 0.3501])  # in the bin of 0.35
    assert passes == 2
    magnitudes.thresholds([0.9])
    assert passes == 3


def test_several_sources_and_threads_find_the_same() -> None:
    families = [tensors_of("plain", seed) for seed in range(3)]
    sources = [magnitudes_of(tensors) for tensors in families]
    densities = [DENSITIES, DENSITIES[:3], DENSITIES[2:]]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: ModelThresholds.of(sources, densities), range(8)))
    assert all(each == found[0] for each in found)
    any_tensor = TaskVectors((torch.zeros(1),) * 3, None, torch.float32)
    thresholds = found[0].thresholds(any_tensor, (0.5, 0.1, 0.77))
    expected = [kth(tensors, share) for tensors, share in zip(families, (0.5, 0.1, 0.77), strict=True)]
    assert [each.magnitude for each in thresholds] == expected
