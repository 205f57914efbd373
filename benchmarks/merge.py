"""Seconds a candidate takes to merge, beside the time it takes to copy the same bytes: ``python benchmarks/merge.py``.

A base and three sources of random numbers in the shape of a 135M model. The floor reads all of them and writes one model,
measured in the same run; what counts is the ratio.
"""

import statistics
import sys
import time

import torch

from evo_merge.methods.base import method_from_recipe
from evo_merge.models.merging import MergedTensors, check_mixture
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source

SHAPES = [(49152, 576)] + 30 * [(576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536)]
METHODS = ("linear", "task_arithmetic", "ties", "dare_linear", "dare_ties")
N_SOURCES, REPEATS = 3, 3


class InMemory:
    """Tensors that wait in memory, in place of a pool's."""

    def __init__(self, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        self.device = torch.device("cpu")
        self._tensors = {
            (reference, str(i)): torch.randn(shape, generator=generator).to(dtype)
            for reference in ("base", "a", "b", "c")
            for i, shape in enumerate(SHAPES)
        }
        self._states: dict[object, object] = {}

    def read(self, reference: ModelReference, name: str) -> torch.Tensor:
        """A tensor of a model."""
        return self._tensors[reference.model, name]

    def state(self, method, recipe, name, tensors):
        """What the method finds once a run."""
        key = (method, name)
        if key not in self._states:
            self._states[key] = method.prepare(tensors())
        return self._states[key]

    def copy_seconds(self, dtype: torch.dtype) -> float:
        """Read every model and write one."""
        sources = [self._tensors["abc"[k], str(i)] for i in range(len(SHAPES)) for k in range(N_SOURCES)]
        target = [torch.empty(shape, dtype=dtype) for shape in SHAPES]

        def once() -> None:
            for tensor in sources:
                tensor.sum()
            for i, tensor in enumerate(target):
                tensor.copy_(self._tensors["base", str(i)])

        return _median(once)


def main() -> int:
    """Print one table."""
    print(f"{'dtype':<10}{'method':<18}{'seconds':>9}{'floor':>9}{'ratio':>8}")
    for name in ("bfloat16", "float32"):
        dtype = getattr(torch, name)
        models = InMemory(dtype)
        floor = models.copy_seconds(dtype)
        for method in METHODS:
            tensors = MergedTensors(models, recipe := _recipe(method, name), check_mixture(recipe))  # type: ignore[arg-type]
            _merge_all(tensors)  # prepares what is found once a run
            seconds = _median(lambda tensors=tensors: _merge_all(tensors))
            print(f"{name:<10}{method:<18}{seconds:>9.3f}{floor:>9.3f}{seconds / floor:>8.1f}", flush=True)
    return 0


def _merge_all(tensors: MergedTensors) -> None:
    for i in range(len(SHAPES)):
        tensors[str(i)]


def _recipe(method: str, dtype: str) -> ParameterSpaceRecipe:
    parts = {parameter.name: (0.5,) * N_SOURCES for parameter in method_from_recipe(method, {}).parameters}
    return ParameterSpaceRecipe(
        base=ModelReference("base"),
        sources=tuple(Source(name, ModelReference(name)) for name in "abc"),
        method=method,
        options={},
        parameters=(ParameterRule(("*",), parts),),
        seed=0,
        dtype="float32",
        out_dtype=dtype,
    )


def _median(action) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
