"""Memory of building a merge of 1.1B models: ``python benchmarks/memory.py [FOLDER] [--keep] [--methods dare_ties ties …]``.

Writes a base and five sources of TinyLlama's shape from random numbers (bf16, in shards, 13 GB) and builds merges of two and
of all five with ``python -m evo_merge.build``, in a process whose anonymous memory (``RssAnon``: all that is no page of a file,
of the interpreter and its libraries too) is looked at every 20 ms. Beside the seconds of a build stand those of copying the
same bytes: every source read, one model written and flushed to the disk. Needs 16 GB of disk.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from random_family import TINYLLAMA, write_family

from evo_merge.methods.base import method_from_recipe, options_of
from evo_merge.models.shard import flush_to_disk
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source, to_yaml

EVERY = 0.02  # seconds
BLOCK = 1 << 24
COUNTS = (2, 5)
_ANONYMOUS = re.compile(r"RssAnon:\s+(\d+) kB")


def main() -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(tempfile.gettempdir()) / "evo-merge-memory")
    parser.add_argument("--methods", nargs="+", default=["dare_ties"])
    parser.add_argument("--keep", action="store_true", help="leave the models there for the next time")
    options = parser.parse_args()
    base, *sources = write_family(options.folder / "1.1b", TINYLLAMA, max(COUNTS))
    print(f"{'method':<18}{'sources':>8}{'peak GB':>9}{'seconds':>9}{'copying':>9}", flush=True)
    try:
        for method in options.methods:
            fits = method_from_recipe(method, {}).n_sources
            peaks = []
            for n in (fits,) if fits is not None else COUNTS:
                out = options.folder / "built"
                for left in (out, out.with_name("built.partial")):  # of a run that was stopped
                    shutil.rmtree(left, ignore_errors=True)
                recipe = options.folder / "recipe.yaml"
                recipe.write_text(to_yaml(recipe_of(method, base, sources[:n])), encoding="utf-8")
                peak, seconds = watched([sys.executable, "-m", "evo_merge.build", f"recipe={recipe}", f"out={out}"])
                copying = copy_seconds([base, *sources[:n]], out)
                peaks.append(peak)
                print(f"{method:<18}{n:>8}{peak / 1e9:>9.2f}{seconds:>9.1f}{copying:>9.1f}", flush=True)
                shutil.rmtree(out)
            if len(peaks) > 1:
                print(
                    f"{'':<18}{COUNTS[-1]} sources take {peaks[-1] / peaks[0]:.2f} times the memory of {COUNTS[0]}", flush=True
                )
    finally:
        if not options.keep:
            shutil.rmtree(options.folder, ignore_errors=True)
    return 0


def recipe_of(method: str, base: Path, sources: list[Path]) -> ParameterSpaceRecipe:
    """A merge by the method with one half for every share and weight."""
    merge = method_from_recipe(method, {})
    values: dict[str, tuple[float, ...] | float] = {
        parameter.name: (0.5,) * len(sources) if parameter.per_source else 0.5
        for parameter in merge.parameters
        if not parameter.optional
    }
    return ParameterSpaceRecipe(
        base=ModelReference(str(base)) if merge.needs_base else None,
        sources=tuple(Source(folder.name, ModelReference(str(folder))) for folder in sources),
        method=method,
        options=options_of(merge),
        parameters=(ParameterRule(("*",), values),),
        seed=0,
        dtype="float32",
        out_dtype="bfloat16",
    )


def watched(command: list[str]) -> tuple[int, float]:
    """Run a command; returns the most anonymous memory that it had, in bytes, and its seconds."""
    started, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            found = _ANONYMOUS.search(Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8"))
        except OSError:
            break  # it has just ended
        peak = max(peak, 1024 * int(found[1]) if found else 0)
        time.sleep(EVERY)
    if process.wait() != 0:
        raise SystemExit(f"failed: {' '.join(command)}")
    return peak, time.perf_counter() - started


def copy_seconds(models: list[Path], like: Path) -> float:
    """Read all models' weights, and write as many bytes as one has."""
    started = time.perf_counter()
    buffer = bytearray(BLOCK)
    for path in (path for model in models for path in sorted(model.glob("*.safetensors"))):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    copy = like.with_name("copy")
    left = sum(path.stat().st_size for path in like.glob("*.safetensors"))
    with copy.open("wb", buffering=0) as file:
        while left > 0:
            left -= file.write(memoryview(buffer)[: min(left, BLOCK)])
        os.fsync(file.fileno())
    flush_to_disk(copy.parent)
    seconds = time.perf_counter() - started
    copy.unlink()
    return seconds


if __name__ == "__main__":
    sys.exit(main())
