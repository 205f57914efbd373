"""What a folder of statistics says about itself, ``statistics.json``: of which models, on which texts, in which files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evo_merge.errors import RecipeError

if TYPE_CHECKING:
    from evo_merge.methods.base import MergeMethod

FISHER, GRAM = "fisher", "gram"
KINDS: Final = (FISHER, GRAM)
LABELS: Final = ("sampled", "text")  # of what gradients of Fisher information are
FILE: Final = "statistics.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The statistics of one source.

    Attributes:
        model: Where it was found.
        fingerprint: Tells its weights from others'.
        files: By name of a safetensors file in the folder, its digest.
        weights: Of how many tensors there are statistics.
        texts: How many went into it.
        tokens: Of all of them.
        scale: What the numbers in the files were divided by: of Fisher information its mean over all entries, else 1.
    """

    model: str
    fingerprint: str
    files: Mapping[str, str]
    weights: int
    texts: int
    tokens: int
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class StatisticsRecord:
    """A folder of statistics.

    Attributes:
        kind: One of ``KINDS``.
        settings: How they were gathered.
        sources: By the source's name.
    """

    kind: str
    settings: Mapping[str, Any]
    sources: Mapping[str, SourceRecord]

    def write(self, folder: Path) -> None:
        """Write ``statistics.json``; the same record gives the same bytes."""
        text = json.dumps({"version": _VERSION, **asdict(self)}, indent=2, ensure_ascii=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read_record(folder: Path) -> StatisticsRecord:
    """Read a folder's record; raises ``RecipeError`` where there is none that can be used."""
    try:
        fields = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if fields.pop("version") != _VERSION:
            raise RecipeError(f"'{folder / FILE}' is of another version of evo-merge; gather the statistics again")
        sources = {name: SourceRecord(**entry) for name, entry in fields.pop("sources").items()}
        return StatisticsRecord(sources=sources, **fields)
    except OSError as error:
        raise RecipeError(
            f"there are no statistics in '{folder}' (looked from '{Path.cwd()}'): it has no {FILE}; gather them with "
            f"python -m evo_merge.calibrate kind=… out={folder}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecipeError(f"'{folder / FILE}' cannot be read as a record of statistics; gather them again") from error


def folder_of(method: MergeMethod) -> Path:
    """Where a method's statistics lie; raises ``RecipeError`` where it is not said."""
    kind, folder = kind_of(method), getattr(method, "statistics", None)
    if not folder:
        name = type(method).__module__.rpartition(".")[2]
        raise RecipeError(
            f"'{name}' needs statistics of each source; gather them with  python -m evo_merge.calibrate kind={kind} "
            "models=… data=FILE.jsonl out=DIR  and name them with merge.method.statistics=DIR, in a recipe with statistics: DIR"
        )
    return Path(str(folder)).expanduser()


def kind_of(method: MergeMethod) -> str | None:
    """Which statistics a method asks for; ``None`` of most methods."""
    kind: str | None = getattr(method, "statistics_kind", None)
    return kind


def pinned(method: MergeMethod) -> MergeMethod:
    """The method with the digest of the statistics that it names, so that its recipes mean these and no others.

    Raises:
        RecipeError: There are none where it says, or they are not those that its own digest means.
    """
    if kind_of(method) is None or not getattr(method, "statistics", None):
        return method
    check_statistics(method, ())
    return replace(method, digest=digest_of_record(folder_of(method)))  # type: ignore[type-var]  # methods are dataclasses


def check_statistics(method: MergeMethod, sources: Sequence[str]) -> None:
    """Whether a method's statistics are there, of its kind, those that its digest means, and of all the sources named.

    Only the record is read. Raises ``RecipeError``.
    """
    kind = kind_of(method)
    if kind is None:
        return
    folder, meant = folder_of(method), getattr(method, "digest", None)
    record, found = read_record(folder), digest_of_record(folder)
    if record.kind != kind:
        raise RecipeError(f"the statistics in '{folder}' are of kind '{record.kind}'; this method takes '{kind}'")
    if meant is not None and meant != found:
        raise RecipeError(
            f"the statistics in '{folder}' are not those that the recipe was made with (digest {meant[:12]}…, found "
            f"{found[:12]}…); name those, or leave the digest out to take these"
        )
    if unknown := [name for name in sources if name not in record.sources]:
        raise RecipeError(
            f"the statistics in '{folder}' are of {', '.join(record.sources)}, and not of '{unknown[0]}'; gather them for all "
            "sources, under the same names"
        )


def digest_of_record(folder: Path) -> str:
    """Which statistics a folder holds: 64 hexadecimal digits."""
    return hashlib.sha256((folder / FILE).read_bytes()).hexdigest()
