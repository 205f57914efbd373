"""Seconds of building a merge of 135M models by command: ``python benchmarks/build.py [--mergekit PYTHON] [--repeats 3]``.

A base and three sources of SmolLM2's shape from random numbers in bf16. What is timed is a whole process, from its start to
the checkpoint on the disk: ``python -m evo_merge.build`` with a recipe of the method as it is by default, with a mergekit YAML,
whose options are mergekit's, and, where ``--mergekit`` names the Python of an environment that has it, ``mergekit-yaml`` with
that YAML; in turns. The smallest of the repeats counts; beside it stand the seconds of processor.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from random_family import SMOLLM2, write_family

from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source, to_yaml

METHODS = ("linear", "task_arithmetic", "ties", "dare_ties")


def main() -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--mergekit", type=Path, help="Python of an environment with mergekit")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the models are kept; left out they are removed")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    try:
        base, *sources = write_family(folder / "135m", SMOLLM2, 3)
        mergekit = [str(options.mergekit.parent / "mergekit-yaml")] if options.mergekit else None
        head = f"{'method':<18}{'recipe':>8}{'cpu':>7}{'YAML':>8}{'cpu':>7}"
        print(head + (f"{'mergekit':>10}{'cpu':>7}{'ratios':>12}" if mergekit else ""))
        for method in options.methods:
            recipe, config, out = folder / "recipe.yaml", folder / "merge.yaml", folder / "built"
            recipe.write_text(recipe_of(method, base, sources), encoding="utf-8")
            config.write_text(yaml_of(method, base, sources), encoding="utf-8")
            build = [sys.executable, "-m", "evo_merge.build", f"out={out}"]
            commands = [[*build, f"recipe={recipe}"], [*build, f"recipe={config}"]]
            if mergekit:
                commands.append([*mergekit, str(config), str(out)])
            runs = [[timed(command, out) for command in commands] for _ in range(options.repeats)]
            best = [min(run[i] for run in runs) for i in range(len(commands))]
            line = f"{method:<18}" + "".join(
                f"{seconds:>{width}.1f}{cpu:>7.1f}" for (seconds, cpu), width in zip(best, (8, 8, 10), strict=False)
            )
            if mergekit:
                line += "".join(f"{best[2][0] / seconds:>6.1f}" for seconds, _ in best[:2])
            print(line, flush=True)
    finally:
        if not options.folder:
            shutil.rmtree(folder)
    return 0


def recipe_of(method: str, base: Path, sources: list[Path]) -> str:
    """A recipe with one half for every weight and density, and nothing else said."""
    numbers = ["weight"] if method in ("linear", "task_arithmetic") else ["weight", "density"]
    return to_yaml(
        ParameterSpaceRecipe(
            base=None if method == "linear" else ModelReference(str(base)),
            sources=tuple(Source(source.name, ModelReference(str(source))) for source in sources),
            method=method,
            options={},
            parameters=(ParameterRule(("*",), {number: (0.5,) * len(sources) for number in numbers}),),
            seed=0,
            dtype="float32",
            out_dtype="bfloat16",
        )
    )


def yaml_of(method: str, base: Path, sources: list[Path]) -> str:
    """A mergekit YAML with one half for every weight and density."""
    numbers = "weight: 0.5" if method in ("linear", "task_arithmetic") else "weight: 0.5, density: 0.5"
    models = "".join(f"  - {{model: {source}, parameters: {{{numbers}}}}}\n" for source in sources)
    base_line = "" if method == "linear" else f"base_model: {base}\n"
    return f"merge_method: {method}\n{base_line}models:\n{models}dtype: bfloat16\n"


def timed(command: list[str], out: Path) -> tuple[float, float]:
    """Seconds of the clock and of the processor that a command takes."""
    shutil.rmtree(out, ignore_errors=True)
    before, started = os.times(), time.perf_counter()
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - started, os.times()
    if finished.returncode != 0:
        raise SystemExit(f"failed: {' '.join(command)}\n{finished.stderr}")
    shutil.rmtree(out)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu


if __name__ == "__main__":
    sys.exit(main())
