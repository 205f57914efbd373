"""Seconds of building a merge of 135M models: ``python benchmarks/build.py [--mergekit PYTHON] [--repeats 3]``.

A base and three sources of SmolLM2's shape from random numbers in bf16. Built are a recipe of the method as it is by default, a
mergekit YAML, whose options are mergekit's, and, where ``--mergekit`` names the Python of an environment that has it, that YAML
by mergekit; in turns. Timed are the whole command, from its start to the checkpoint on the disk, and, in another process, the
merge alone, once everything is imported and the models are named: most of a small merge by command is spent on importing torch
and transformers. The smallest of the repeats counts.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from random_family import SMOLLM2, write_family

from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source, to_yaml

METHODS = ("linear", "task_arithmetic", "ties", "dare_ties")
OURS = """
import sys, time
from pathlib import Path
from evo_merge.interchange.read import load_any
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.pool import Pool
recipe = load_any(Path(sys.argv[1]))
pool = Pool.of_recipe(recipe)
pool.leader.shapes  # its config is read, for which transformers is imported
started = time.perf_counter()
write_checkpoint(recipe, pool, Path(sys.argv[2]))
print(time.perf_counter() - started)
"""
MERGEKITS = """
import sys, time, yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
config = MergeConfiguration.model_validate(yaml.safe_load(open(sys.argv[1])))
started = time.perf_counter()
run_merge(config, sys.argv[2], options=MergeOptions())
print(time.perf_counter() - started)
"""


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
        columns = ["recipe", "YAML", *(["mergekit", "recipe", "YAML"] if options.mergekit else [])]
        print(f"{'':<18}{'seconds by command, and times faster':<46}seconds of the merge alone, and times faster")
        print(f"{'method':<18}" + 2 * ("".join(f"{name:>9}" for name in columns) + " "))
        for method in options.methods:
            recipe, config, out = folder / "recipe.yaml", folder / "merge.yaml", folder / "built"
            recipe.write_text(recipe_of(method, base, sources), encoding="utf-8")
            config.write_text(yaml_of(method, base, sources), encoding="utf-8")
            ours = [[sys.executable, "-m", "evo_merge.build", f"out={out}", f"recipe={given}"] for given in (recipe, config)]
            alone = [[sys.executable, "-c", OURS, str(given), str(out)] for given in (recipe, config)]
            if options.mergekit:
                ours.append([str(options.mergekit.parent / "mergekit-yaml"), str(config), str(out)])
                alone.append([str(options.mergekit), "-c", MERGEKITS, str(config), str(out)])
            whole = [[run(command, out)[0] for command in ours] for _ in range(options.repeats)]
            inner = [[float(run(command, out)[1].split()[-1]) for command in alone] for _ in range(options.repeats)]
            print(
                f"{method:<18}" + " ".join(row_of([min(times) for times in zip(*runs, strict=True)]) for runs in (whole, inner))
            )
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


def row_of(seconds: list[float]) -> str:
    """The seconds and, where the last are mergekit's, how many times as long those are."""
    times = [f"{seconds[-1] / each:>8.1f}x" for each in seconds[:2]] if len(seconds) > 2 else []
    return "".join([*(f"{each:>9.1f}" for each in seconds), *times])


def run(command: list[str], out: Path) -> tuple[float, str]:
    """Seconds of a command that writes a folder, and what it prints."""
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if finished.returncode != 0:
        raise SystemExit(f"failed: {' '.join(command)}\n{finished.stderr}")
    shutil.rmtree(out)
    return seconds, finished.stdout


if __name__ == "__main__":
    sys.exit(main())
