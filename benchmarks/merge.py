"""Seconds a candidate takes to merge in memory, beside what copying the same bytes takes: ``python benchmarks/merge.py``.

A base and three sources of random numbers in the shape of SmolLM2-135M, written to a temporary folder and opened as any pool
is. What is timed is what a search does for each candidate: the weights of the model on the device become those of the next
recipe, all of whose numbers are new. The floor is measured in the same run: the bytes of all models read and of one written,
at the speed at which whole models are copied. What counts are the ratios.

``--mergekit PYTHON`` also times ``mergekit-yaml`` on the same models and numbers, in the environment of that interpreter.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch
import yaml
from random_family import SMOLLM2, write_family

from evo_merge.methods.base import method_from_recipe
from evo_merge.models.assemble import MixedModel
from evo_merge.models.pool import Pool
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe

ENTRYWISE = ("linear", "task_arithmetic", "ties", "dare_linear", "dare_ties", "breadcrumbs", "breadcrumbs_ties")
OTHERS = ("model_stock", "ram", "della")
SOURCES = ("s1", "s2", "s3")
CPU = torch.device("cpu")
PREPARED = 3  # candidates after which every order of magnitudes is sorted


def main() -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mergekit", help="the interpreter of an environment with mergekit")
    parser.add_argument("--methods", nargs="*", default=[*ENTRYWISE, *OTHERS])
    parser.add_argument("--dtypes", nargs="*", default=["bfloat16", "float32"])
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    print(f"{torch.get_num_threads()} threads; seconds a candidate, the best of {given.repeats}")
    columns = f"{'first':>8}{'parts':>8}{'compiled':>9}{'floor':>8}{'ratio':>7}{'1 layer':>9}"
    print(f"{'dtype':<10}{'method':<18}{columns}{'mergekit':>10}{'ratio':>7}")
    for dtype in given.dtypes:
        with tempfile.TemporaryDirectory() as folder:
            write_family(Path(folder), SMOLLM2, len(SOURCES), getattr(torch, dtype))
            floor = _floor(Path(folder), given.repeats)
            for method in given.methods:
                print(_row(Path(folder), method, dtype, floor, given.repeats, given.mergekit), flush=True)
    return 0


def _row(folder: Path, method: str, dtype: str, floor: float, repeats: int, mergekit: str | None) -> str:
    first, in_parts = _seconds(folder, method, dtype, "never", repeats)[:2]
    compiled, layer = _seconds(folder, method, dtype, "always", repeats)[1:] if method in ENTRYWISE else (None, None)
    best = in_parts if compiled is None else compiled
    row = f"{dtype:<10}{method:<18}{first:>8.2f}{in_parts:>8.3f}"
    row += f"{'':>9}" if compiled is None else f"{compiled:>9.3f}"
    row += f"{floor:>8.3f}{best / floor:>7.1f}" + (f"{'':>9}" if layer is None else f"{layer:>9.4f}")
    if mergekit is not None and (theirs := _mergekit_seconds(folder, method, dtype, mergekit)) is not None:
        row += f"{theirs:>10.1f}{theirs / best:>6.0f}x"
    return row


def _seconds(folder: Path, method: str, dtype: str, compile: str, repeats: int) -> tuple[float, float, float]:
    """Of the first candidate, of those once everything is prepared, and of one in which a single layer differs."""
    pool = Pool(base=str(folder / "base"), sources=[str(folder / name) for name in SOURCES], out_dtype=dtype, compile=compile)
    model = MixedModel(pool, CPU, ())
    steps = count()

    def candidate() -> None:
        model.assemble(_recipe(pool, method, dtype, next(steps)))

    first = _best(candidate, 1)
    for _ in range(PREPARED):
        candidate()
    every = _best(candidate, repeats)

    def layer() -> None:
        model.assemble(_recipe(pool, method, dtype, 0, layer=next(steps)))

    layer()
    return first, every, _best(layer, repeats)


def _recipe(pool: Pool, method: str, dtype: str, step: int, layer: int | None = None) -> ParameterSpaceRecipe:
    """Numbers that are others at every step, everywhere or in one layer."""
    taken = method_from_recipe(method, {})

    def values(step: int) -> dict[str, tuple[float, ...] | float]:
        found: dict[str, tuple[float, ...] | float] = {}
        for parameter in taken.parameters:
            one = parameter.low + (0.4 + 0.001 * (step % 100)) * (parameter.high - parameter.low)
            found[parameter.name] = (one,) * len(pool.sources) if parameter.per_source else one
        return found

    rules = [ParameterRule(("*",), values(step))]
    if layer is not None:
        rules.insert(0, ParameterRule(("model.layers.7.*",), values(layer)))
    return ParameterSpaceRecipe(
        base=pool.base.reference if taken.needs_base and pool.base is not None else None,
        sources=pool.recipe_sources,
        method=method,
        options={},
        parameters=tuple(rules),
        seed=0,
        dtype="float32",
        out_dtype=dtype,
    )


def _floor(folder: Path, repeats: int) -> float:
    """A copy reads one model and writes one; a merge reads the base and all sources and writes one."""
    size = (folder / "base" / "model.safetensors").stat().st_size
    source, target = torch.ones(size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)
    return _best(lambda: target.copy_(source), 2 * repeats) * (len(SOURCES) + 2) / 2


def _mergekit_seconds(folder: Path, method: str, dtype: str, python: str) -> float | None:
    """Of ``mergekit-yaml``, once, or ``None`` where it fails."""
    per_source = {p.name: p.low + 0.4 * (p.high - p.low) for p in method_from_recipe(method, {}).parameters if p.per_source}
    models = [{"model": str(folder / name), "parameters": per_source} for name in SOURCES]
    config = {"merge_method": method, "models": models, "dtype": "float32", "out_dtype": dtype}
    if method != "linear":
        config["base_model"] = str(folder / "base")
    (folder / "mergekit.yml").write_text(yaml.safe_dump(config))
    command = [str(Path(python).parent / "mergekit-yaml"), str(folder / "mergekit.yml"), str(folder / "merged")]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"mergekit, {method}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return time.perf_counter() - started


def _best(action: Callable[[], object], repeats: int) -> float:
    """The quickest of some: what others do on the machine only adds to it."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times) if repeats > 1 else statistics.mean(times)


if __name__ == "__main__":
    sys.exit(main())
