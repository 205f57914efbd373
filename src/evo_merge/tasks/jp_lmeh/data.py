"""The examples of a task of the harness with the solved ones before each, drawn as the harness draws them.

It shuffles the rows with ``random.Random(42)``, takes the first of them where there is a limit, and draws the solved examples
of one row after the other from the same generator (``lm_eval/evaluator.py`` of version 0.3, which jp-stable is a fork of).
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evo_merge.errors import ConfigError, DataError
from evo_merge.tasks.base import SPLITS, Split
from evo_merge.tasks.checks import checked_count, checked_limit, plain
from evo_merge.tasks.examples import file_rows, hub_rows, normalised, refuse_overlap
from evo_merge.tasks.jp_lmeh.prompts import JaExample
from evo_merge.tasks.splits import checked_files, checked_hub

SHOTS = "shots"
_SEED = 42
Parse = Callable[[Mapping[str, Any], str], JaExample | None]


class ShotSplits:
    """Where the rows of each split and the solved examples are, and those that have been read."""

    def __init__(
        self,
        key: str,
        parse: Parse,
        parse_shot: Parse,
        *,
        data: str | None,
        files: Mapping[str, str | None],
        hub: Mapping[str, Mapping[str, str | None] | None] | None,
        limit: Mapping[str, int | None],
        shots: int,
        stratified: bool,
        allow_overlap: bool,
    ) -> None:
        """Check the options; no data is read before the first call of ``examples``.

        Args:
            key: The task; names it in messages and its files in ``data``.
            parse: Makes an example of a row.
            parse_shot: Makes a solved example of a row, or ``None`` of one that cannot be shown as solved.
            data: A folder that file names are looked up in; also ``<key>_test.jsonl`` and so on where no name is given.
            files: JSON Lines files per split, and of ``shots``; they go before the hub.
            hub: Datasets likewise.
            limit: Per split how many rows are used.
            shots: Solved examples before each question.
            stratified: Whether each class has as many of them, as far as they go.
            allow_overlap: Whether splits may share questions.

        Raises:
            ConfigError: A value makes no sense; names the option.
        """
        self._key, self._parse, self._parse_shot = key, parse, parse_shot
        uses = (*SPLITS, SHOTS)
        if data is not None and not Path(data).expanduser().is_dir():
            raise ConfigError(f"task.data: there is no folder '{data}' (looked from {Path.cwd()})")
        self._files = {use: self._found(data, use, name) for use, name in checked_files(plain(files), uses).items()}
        self._hub = checked_hub(plain(hub), uses)
        self._limit = checked_limit(plain(limit))
        self._n_shots = checked_count("shots", shots, least=0)
        self._stratified, self._allow_overlap = stratified, allow_overlap
        self._read: dict[str, tuple[JaExample, ...]] = {}
        self._prepared: dict[Split, tuple[JaExample, ...]] = {}

    def examples(self, split: Split, context: Callable[[JaExample, Sequence[JaExample]], str]) -> Sequence[JaExample]:
        """The examples of a split in the harness's order, each with its whole prompt and its class's weight.

        Args:
            split: Empty where there is no validation split.
            context: Makes the prompt of an example and its solved ones.

        Raises:
            DataError: The rows are missing or cannot be used, there are too few solved ones, or splits share questions.
        """
        if split not in self._prepared:
            if split == "validation" and not self._exists(split):
                return ()
            rows = list(self._once(split))
            self._refuse_overlap(split)
            draws = random.Random(_SEED)
            draws.shuffle(rows)
            rows = rows[: self._limit[split]]
            classes = Counter(row.right for row in rows)
            self._prepared[split] = tuple(
                replace(
                    row,
                    context=context(row, self._drawn(draws, row)),
                    weight=len(rows) / (len(classes) * classes[row.right]),
                )
                for row in rows
            )
        return self._prepared[split]

    def _drawn(self, draws: random.Random, row: JaExample) -> list[JaExample]:
        """Solved examples for a row; it is never shown itself, should they be from the same rows."""
        if self._n_shots == 0:
            return []
        drawn = self._sampled(draws, self._once(SHOTS))
        asked = normalised(row.question)
        if any(normalised(shot.question) == asked for shot in drawn):
            drawn = self._sampled(draws, [shot for shot in self._once(SHOTS) if normalised(shot.question) != asked])
        return drawn

    def _sampled(self, draws: random.Random, pool: Sequence[JaExample]) -> list[JaExample]:
        if len(pool) < self._n_shots:
            raise DataError(f"task '{self._key}' wants {self._n_shots} solved examples, and its shots have {len(pool)}")
        return _stratified(draws, pool, self._n_shots) if self._stratified else draws.sample(pool, self._n_shots)

    def _once(self, use: str) -> tuple[JaExample, ...]:
        if use not in self._read:
            file, source = self._files[use], self._hub[use]
            if file is None and source is None:
                what, either = (
                    ("solved examples", ", or ask without them: task.shots=0") if use == SHOTS else (f"{use} examples", "")
                )
                raise DataError(
                    f"task '{self._key}' has no {what}; name a JSON Lines file: task.files.{use}=FILE, or a folder "
                    f"with {self._key}_{use}.jsonl: task.data=DIR{either}"
                )
            rows = file_rows(file, use) if file is not None else hub_rows(source, use) if source is not None else ()
            parse = self._parse_shot if use == SHOTS else self._parse
            places: dict[str, str] = {}
            found: list[JaExample] = []
            for place, row in rows:
                example = parse(row, place)
                if example is None:
                    continue
                named = example.id or f"{use}-{len(found):04d}"
                if named in places:
                    raise DataError(f"{place}: ids must be unique, but '{named}' is also the id of {places[named]}")
                places[named] = place
                found.append(replace(example, id=named))
            if not found:
                raise DataError(f"task.files.{use}: '{file or source}' has no rows; at least one is needed")
            self._read[use] = tuple(found)
        return self._read[use]

    def _refuse_overlap(self, split: Split) -> None:
        """Compare with all other rows that need no hub or have been read, so that a run stops before its first candidate."""
        if self._allow_overlap:
            return
        for other in SPLITS:
            if other != split and (self._files[other] is not None or other in self._read):
                refuse_overlap({other: self._once(other), split: self._once(split)})

    def _exists(self, use: str) -> bool:
        return self._files[use] is not None or self._hub[use] is not None

    def _found(self, data: str | None, use: str, name: str | None) -> str | None:
        if data is None:
            return name
        if name is not None:
            return str(Path(data).expanduser() / name)
        usual = Path(data).expanduser() / f"{self._key}_{use}.jsonl"
        return str(usual) if usual.is_file() else None


def _stratified(draws: random.Random, pool: Sequence[JaExample], n_shots: int) -> list[JaExample]:
    """As many of each class as go evenly, the others from what is left, in a random order."""
    classes = sorted({shot.right for shot in pool})
    drawn: list[JaExample] = []
    for right in classes:
        own = [shot for shot in pool if shot.right == right]
        drawn += draws.sample(own, min(n_shots // len(classes), len(own)))
    taken = {shot.id for shot in drawn}
    drawn += draws.sample([shot for shot in pool if shot.id not in taken], n_shots - len(drawn))
    draws.shuffle(drawn)
    return drawn
