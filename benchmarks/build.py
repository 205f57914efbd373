"""Seconds of building a merge of 135M models by command: ``python benchmarks/build.py [--mergekit PYTHON] [--repeats 3]``.

A base and three sources of SmolLM2's shape from random numbers in bf16. What is timed is a whole process, from its start to
the checkpoint on the disk: ``python -m evo_merge.build`` with a mergekit YAML and, where ``--mergekit`` names the Python of an
environment that has it, ``mergekit-yaml`` with the same, in turns. The smallest of the repeats counts; beside it stand the
seconds of processor.
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
        print(
            f"{'method':<18}{'evo-merge':>10}{'cpu':>7}"
            + (f"{'mergekit':>10}{'cpu':>7}{'ratio':>7}" if options.mergekit else "")
        )
        for method in options.methods:
            config, out = folder / "merge.yaml", folder / "built"
            config.write_text(yaml_of(method, base, sources), encoding="utf-8")
            commands = [[sys.executable, "-m", "evo_merge.build", f"recipe={config}", f"out={out}"]]
            if options.mergekit:
                commands.append([str(options.mergekit.parent / "mergekit-yaml"), str(config), str(out)])
            runs = [[timed(command, out) for command in commands] for _ in range(options.repeats)]
            best = [min(run[i] for run in runs) for i in range(len(commands))]
            line = f"{method:<18}" + "".join(f"{seconds:>10.1f}{cpu:>7.1f}" for seconds, cpu in best)
            print(line + (f"{best[1][0] / best[0][0]:>7.1f}" if options.mergekit else ""), flush=True)
    finally:
        if not options.folder:
            shutil.rmtree(folder)
    return 0


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
