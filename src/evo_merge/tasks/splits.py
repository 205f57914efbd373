"""The splits of a task whose examples are in files or on the hub: read once, and kept apart."""

from collections.abc import Mapping, Sequence

from evo_merge.errors import ConfigError, DataError
from evo_merge.tasks.base import SPLITS, Example, Split
from evo_merge.tasks.checks import check_keys, checked_limit, plain
from evo_merge.tasks.examples import AnswerCheck, Columns, HubSource, Refine, read_file, read_hub, refuse_overlap


class Splits:
    """Where the examples of each split are, and those that have been read."""

    def __init__(
        self,
        task: str,
        files: Mapping[str, str | None],
        hub: Mapping[str, Mapping[str, str | None] | None] | None,
        limit: Mapping[str, int | None],
        columns: Columns,
        *,
        allow_overlap: bool,
        check: AnswerCheck | None = None,
        refine: Refine | None = None,
    ) -> None:
        """Check the options; no data is read before the first call of ``examples``.

        Args:
            task: Its name, for messages.
            files: Per split a JSON Lines file, from the current directory; it goes before the hub.
            hub: Per split ``path``, ``name``, ``split`` and ``revision`` of a dataset.
            limit: Per split how many rows are used, from the first.
            columns: Where a row keeps what.
            allow_overlap: Whether splits may share questions.
            check: What must hold for the answers.
            refine: Makes the task's own example of what was read.

        Raises:
            ConfigError: A value makes no sense; names the option.
        """
        self._task, self._columns, self._check, self._refine = task, columns, check, refine
        self._files = checked_files(plain(files))
        self._hub = checked_hub(plain(hub))
        self._limit = checked_limit(plain(limit))
        if not isinstance(allow_overlap, bool):
            raise ConfigError(f"task.allow_overlap: must be true or false, got {allow_overlap!r}")
        self._allow_overlap = allow_overlap
        self._read: dict[Split, tuple[Example, ...]] = {}
        self._compared: set[Split] = set()

    def examples(self, split: Split) -> Sequence[Example]:
        """The examples of a split, read once; the validation split may be empty.

        The search examples are compared with all other splits, so that a run stops before its first candidate; the
        others with those that need no hub.

        Raises:
            DataError: The split is missing or cannot be read, or it shares questions with another.
        """
        if not self._exists(split):
            if split == "validation":
                return ()
            raise DataError(f"task '{self._task}' has no {split} examples; name a JSON Lines file: task.files.{split}=FILE")
        examples = self._read_once(split)
        if split not in self._compared and not self._allow_overlap:
            others = (
                other
                for other in SPLITS
                if other == split
                or self._files[other] is not None
                or other in self._read
                or (split == "search" and self._exists(other))
            )
            refuse_overlap({other: self._read_once(other) for other in others})
            self._compared.add(split)
        return examples

    def _exists(self, split: Split) -> bool:
        return self._files[split] is not None or self._hub[split] is not None

    def _read_once(self, split: Split) -> tuple[Example, ...]:
        if split not in self._read:
            file, source, limit = self._files[split], self._hub[split], self._limit[split]
            if file is not None:
                examples = read_file(file, split, self._columns, limit, self._check, self._refine)
            elif source is not None:
                examples = read_hub(source, split, self._columns, limit, self._check, self._refine)
            else:
                examples = []
            self._read[split] = tuple(examples)
        return self._read[split]


def checked_files(files: Mapping[str, str | None], uses: Sequence[str] = SPLITS) -> dict[str, str | None]:
    """Per split, or whatever the files are for, a file or ``None``; or ``ConfigError``."""
    check_keys("files", files, uses)
    for split, file in files.items():
        if file is not None and (not isinstance(file, str) or not file):
            raise ConfigError(f"task.files.{split}: must be the path of a JSON Lines file, got {file!r}")
    return {use: files.get(use) for use in uses}


def checked_hub(
    hub: Mapping[str, Mapping[str, str | None] | None] | None, uses: Sequence[str] = SPLITS
) -> dict[str, HubSource | None]:
    """Per split, or whatever the datasets are for, one or ``None``; or ``ConfigError``."""
    check_keys("hub", hub or {}, uses)
    sources: dict[str, HubSource | None] = dict.fromkeys(uses)
    for split in uses:
        source = (hub or {}).get(split)
        if source is None:
            continue
        check_keys(f"hub.{split}", source, ("path", "name", "split", "revision"))
        path, hub_split = source.get("path"), source.get("split")
        if not path or not hub_split:
            raise ConfigError(f"task.hub.{split}: must name the dataset's 'path' and 'split', got {dict(source)!r}")
        sources[split] = HubSource(path, source.get("name"), hub_split, source.get("revision"))
    return sources
