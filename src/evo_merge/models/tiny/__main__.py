"""Rebuild the embedded tiny family from a seed: ``python -m evo_merge.models.tiny out=DIR [seed=0]``."""

# ruff: noqa: T201 (a command prints)

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evo_merge.command_line import guarded, nearest
from evo_merge.errors import ConfigError

SHIPPED = Path(__file__).parent / "tiny_ja_math"
SHIPPED_SEED = 0


@dataclass(frozen=True, slots=True)
class Arguments:
    """Where the family goes and which seed makes it."""

    out: Path
    seed: int = SHIPPED_SEED


def parse(words: Sequence[str]) -> Arguments:
    """Read ``key=value`` words.

    Raises:
        ConfigError: An unknown, missing, repeated or senseless argument; the message is for the user.
    """
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in ("out", "seed"):
            raise ConfigError(f"there is no argument '{name}'; {nearest(name, ('out', 'seed'))}")
        if not equals or not value:
            raise ConfigError(f"argument {name!r} needs a value, got {word!r}; write {name}=VALUE")
        if name in given:
            raise ConfigError(f"argument {name!r} must be given once, got it twice")
        given[name] = value
    if "out" not in given:
        raise ConfigError("argument 'out' is missing; write out=DIR, a folder that does not exist yet or is empty")
    out, seed = Path(given["out"]), given.get("seed", str(SHIPPED_SEED))
    if not (seed.isascii() and seed.isdigit()):
        raise ConfigError(f"seed must be a whole number, 0 or more, got {seed!r}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out must be a folder that does not exist yet or is empty, got {str(out)!r}")
    return Arguments(out, int(seed))


def verdict(rebuilt: dict[str, str], shipped: dict[str, str], seed: int) -> str:
    """Say in one sentence how a rebuilt family compares to the shipped one, given both their checksums."""
    different = sorted(name for name in rebuilt.keys() | shipped.keys() if rebuilt.get(name) != shipped.get(name))
    if not different:
        return f"The result equals the shipped family: all {len(shipped)} files are the same."
    if seed != SHIPPED_SEED:
        return f"The result differs from the shipped family, as it should: that one has seed {SHIPPED_SEED}, this one {seed}."
    if any(name.endswith(".safetensors") for name in different):
        return (
            "The result differs from the shipped family in its weights, as happens on another kind of processor or with "
            f"another version of torch: {', '.join(different)}."
        )
    return (
        "The weights equal those of the shipped family; other files differ, as happens with other versions of "
        f"transformers or tokenizers: {', '.join(different)}."
    )


def main(words: Sequence[str]) -> int:
    """Train, write, compare; return the exit code."""
    if list(words) in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    return guarded(lambda: rebuild(parse(words)))


def rebuild(arguments: Arguments) -> None:
    """Train and write the family, and say whether it is the shipped one.

    Raises:
        ConfigError: The folder cannot be made.
    """
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={arguments.out} cannot be made: {error.strerror}") from error
    # Only now, for a wrong word should not have to wait for torch.
    from transformers.utils.logging import disable_progress_bar

    from evo_merge.models.tiny.family import read_checksums, train_family, write_family

    disable_progress_bar()  # four bars for four files written at once
    family = train_family(arguments.seed, report=lambda line: print(line, flush=True))
    write_family(family, arguments.out, arguments.seed)
    print(f"{arguments.out}: {len(family)} models and SHA256SUMS written.")
    print(verdict(read_checksums(arguments.out), read_checksums(SHIPPED), arguments.seed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
