"""``python -m evo_merge.from_evolve genome=FILE out=DIR``: a genome of mergekit-evolve becomes an experiment of ours.

Printed are the experiment, the command that runs it, and what has no counterpart.
"""

import re
import shlex
import sys
import textwrap
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from evo_merge.command_line import run_hydra
from evo_merge.errors import ConfigError, RecipeError

_WIDTH = 120


def main() -> int:
    """Run the command; returns the exit code."""
    return run_hydra("from_evolve", _job)


def _job(config: DictConfig) -> None:
    from evo_merge.interchange.from_evolve import from_evolve

    if OmegaConf.is_missing(config, "genome"):
        raise ConfigError(
            "genome is not set; it is mergekit-evolve's YAML: python -m evo_merge.from_evolve genome=FILE out=DIR"
        )
    path = Path(str(config.genome)).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the genome '{path}': {getattr(error, 'strerror', None) or error}") from error
    name = re.sub(r"[^\w-]", "_", path.stem)  # Hydra would read other letters as its grammar
    experiment = from_evolve(text, f"'{path}'", name, path.parent, config.include_path)
    out = Path("DIR") if config.out is None else Path(str(config.out)).expanduser()
    if config.out is not None:
        _write(out / "experiment" / f"{name}.yaml", experiment.text)
    print(experiment.text)  # noqa: T201
    print(f"python -m evo_merge --config-dir {shlex.quote(str(out))} experiment={name}\n")  # noqa: T201
    for note in experiment.notes:
        print(textwrap.fill(note, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False))  # noqa: T201
    if config.out is None:
        print("\nNothing was written; out=DIR writes the experiment to DIR/experiment/.")  # noqa: T201


def _write(path: Path, text: str) -> None:
    """Write the experiment; what is there already is left as it is, be it the same or another."""
    if path.exists():
        if path.is_file() and path.read_bytes() == text.encode():
            return
        raise ConfigError(f"'{path}' exists and is another experiment; choose another out=DIR, or remove it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write '{path}': {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
