"""Where examples come from: local JSON Lines files, or the Hugging Face hub through ``datasets``.

Splits are kept apart here as well: ``refuse_overlap`` finds questions that two of them share.
"""

import itertools
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

from evo_merge.errors import DataError
from evo_merge.tasks.base import Example, Split

AnswerCheck: TypeAlias = Callable[[str], str | None]
"""Says what is wrong with a reference answer, or ``None`` where it can be used."""

Refine: TypeAlias = Callable[[Example, Mapping[str, object], str], Example]
"""Makes a task's own example of what was read, the row's fields, and where the row stands (for messages)."""

Row: TypeAlias = tuple[str, Mapping[str, object]]
"""Where a row stands, for messages; its fields."""

_THOUSANDS_SEPARATOR = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# Punctuation that changes what is asked: 3.5 is not 35, and 12-5 is not 12 5.
_ARITHMETIC = re.compile(r"(?<=\d)[.,:](?=\d)|[-/*](?=\s*\d)|%")


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the fields of a row.

    Attributes:
        id: Tells rows apart; a row without this field is named after its split and position.
        question: What the model is asked.
        answer: The reference, a text or a number.
    """

    id: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class HubSource:
    """A split of a dataset on the hub.

    Attributes:
        path: Its id, as in ``org/dataset``.
        name: The configuration; ``None`` where it has one only.
        split: The hub's name of the split.
        revision: Branch, tag or commit; ``None`` is the newest.
    """

    path: str
    name: str | None
    split: str
    revision: str | None


def read_file(
    path: str,
    split: Split,
    columns: Columns,
    limit: int | None = None,
    check: AnswerCheck | None = None,
    refine: Refine | None = None,
) -> list[Example]:
    """Read the first examples of a JSON Lines file.

    Args:
        path: From the current directory; ``~`` is the home folder.
        split: What the examples are for; names the option in messages.
        columns: Where a row keeps what.
        limit: How many rows at most; ``None`` reads all.
        check: What must hold for the answers.
        refine: Makes the task's own example of what was read.

    Returns:
        At least one example, unless ``limit`` is 0; blank lines are skipped.

    Raises:
        DataError: The file is missing, not JSON Lines or empty, or a row lacks its question or answer or repeats an id;
            names the file and the line.
    """
    rows = file_rows(path, split)
    return _examples(rows, split, columns, limit, check, refine, nothing=f"task.files.{split}: file '{path}' has no rows")


def read_hub(
    source: HubSource,
    split: Split,
    columns: Columns,
    limit: int | None = None,
    check: AnswerCheck | None = None,
    refine: Refine | None = None,
) -> list[Example]:
    """Read the first examples of a dataset on the hub, or of its copy in the local cache.

    Args:
        source: Which dataset.
        split: What the examples are for; names the option in messages.
        columns: Where a row keeps what.
        limit: How many rows at most; ``None`` reads all.
        check: What must hold for the answers.
        refine: Makes the task's own example of what was read.

    Raises:
        DataError: The hub cannot be reached or has no such dataset, or a row cannot be used.
    """
    named = " ".join(filter(None, (source.path, source.name, source.split)))
    rows = hub_rows(source, split)
    return _examples(rows, split, columns, limit, check, refine, nothing=f"task.hub.{split}: dataset '{named}' has no rows")


def file_rows(path: str, use: str) -> Iterator[Row]:
    """The rows of a JSON Lines file, as they stand.

    Args:
        path: From the current directory; ``~`` is the home folder.
        use: The split, or what else the rows are for; names the option ``task.files`` in messages.

    Raises:
        DataError: The file is missing or not JSON Lines.
    """
    return json_lines(path, option=f"task.files.{use}")


def hub_rows(source: HubSource, use: str) -> Iterator[Row]:
    """The rows of a dataset on the hub, or of its copy in the local cache.

    Raises:
        DataError: The hub cannot be reached or has no such dataset.
    """
    named = " ".join(filter(None, (source.path, source.name, source.split)))
    return ((f"'{named}', row {number}", row) for number, row in enumerate(_hub_rows(source, use)))


def read_completions(path: str, columns: Columns, check: AnswerCheck | None = None) -> list[tuple[Example, str]]:
    """Read saved completions: each row holds an example's fields and ``completion``; the question may be missing.

    Raises:
        DataError: As ``read_file``, or a row has no completion.
    """
    pairs: list[tuple[Example, str]] = []
    for place, row in json_lines(path, option="completions"):
        completion = row.get("completion")
        if not isinstance(completion, str):
            raise DataError(f"{place}: a row of saved completions needs the text field 'completion', {_has(row)}")
        named = _text(row.get(columns.id), place, columns.id) or f"{len(pairs):04d}"
        question = _text(row.get(columns.question), place, columns.question)
        pairs.append((Example(named, question, _answer(row, place, columns, check)), completion))
    if not pairs:
        raise DataError(f"completions: file '{path}' has no rows")
    return pairs


def refuse_overlap(splits: Mapping[Split, Sequence[Example]]) -> None:
    """Make sure that no question stands in two splits; case, width, spaces and punctuation make no difference.

    Raises:
        DataError: Two splits share questions; names how many, the first pair and the option that allows it.
    """
    for (one, others), (another, examples) in itertools.combinations(splits.items(), 2):
        seen = {normalised(example.question): example.id for example in reversed(others)}
        shared = [example for example in examples if normalised(example.question) in seen]
        if shared:
            first = shared[0]
            raise DataError(
                f"splits must not share questions, but {len(shared)} of the {len(examples)} of '{another}' are also "
                f"in '{one}' (the first: '{first.id}' is '{seen[normalised(first.question)]}'); choose other files, or "
                "allow it with task.allow_overlap=true"
            )


def normalised(text: str) -> str:
    """Fold what makes no difference: width (NFKC), case, spaces, and punctuation that is no arithmetic."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\N{MINUS SIGN}", "-")
    folded = _THOUSANDS_SEPARATOR.sub("", folded)
    kept = {match.start() for match in _ARITHMETIC.finditer(folded)}
    letters = [
        letter
        for index, letter in enumerate(folded)
        if index in kept or not (letter.isspace() or unicodedata.category(letter).startswith("P"))
    ]
    # An answer may be nothing but punctuation.
    return "".join(letters) or folded.strip()


def _examples(
    rows: Iterable[Row],
    split: Split,
    columns: Columns,
    limit: int | None,
    check: AnswerCheck | None,
    refine: Refine | None,
    nothing: str,
) -> list[Example]:
    examples: list[Example] = []
    places: dict[str, str] = {}
    for place, row in itertools.islice(rows, limit):
        question = _text(row.get(columns.question), place, columns.question)
        if not question.strip():
            raise DataError(
                f"{place}: a row needs a question in '{columns.question}', {_has(row)}; task.columns.question names the field"
            )
        answer = _answer(row, place, columns, check)
        named = _text(row.get(columns.id), place, columns.id) or f"{split}-{len(examples):04d}"
        if named in places:
            raise DataError(f"{place}: ids must be unique, but '{named}' is also the id of {places[named]}")
        places[named] = place
        example = Example(named, question, answer)
        examples.append(example if refine is None else refine(example, row, place))
    if not examples and limit != 0:
        raise DataError(f"{nothing}; at least one is needed")
    return examples


def _answer(row: Mapping[str, object], place: str, columns: Columns, check: AnswerCheck | None) -> str:
    answer = _text(row.get(columns.answer), place, columns.answer)
    if not answer.strip():
        raise DataError(
            f"{place}: a row needs an answer in '{columns.answer}', {_has(row)}; task.columns.answer names the field"
        )
    reason = check(answer) if check else None
    if reason:
        raise DataError(f"{place}: {reason}")
    return answer


def _has(row: Mapping[str, object]) -> str:
    """Say what a row holds."""
    filled = [str(key) for key, value in row.items() if value is not None and value != ""]
    return f"this one has {', '.join(filled)}" if filled else "this one is empty"


def _text(value: object, place: str, column: str) -> str:
    """The text of a field; empty where it is missing."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{place}: '{column}' must be a text or a number, got {type(value).__name__}")
    # Not str: 1e+22 would be read as 22.
    return f"{Decimal(str(value)):f}"


def json_lines(path: str, option: str) -> Iterator[Row]:
    """The rows of a JSON Lines file, each with its place in words; raises ``DataError``, naming ``option`` or the place."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"{option}: there is no file '{path}' (looked from {Path.cwd()})")
    try:
        # A byte order mark is no part of the first row.
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    place = f"'{path}', line {number}"
                    yield place, _json_object(line, place)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{option}: file '{path}' cannot be read as UTF-8 text: {error}") from error


def _json_object(line: str, place: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.pos + 1}"
        raise DataError(f"{place}: every line must be one JSON object, but this is not JSON ({reason})") from error
    except (ValueError, RecursionError) as error:  # a number of 5000 digits, a thousand brackets
        raise DataError(f"{place}: every line must be one JSON object that Python can read ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: every line must be one JSON object, got {type(row).__name__}")
    return row


def _hub_rows(source: HubSource, split: str) -> Any:
    try:
        # Heavy, and wanted only where no local file is named.
        import datasets
        import huggingface_hub

        if not huggingface_hub.constants.HF_HUB_OFFLINE and not Path(source.path).is_dir():
            # Without a network, load_dataset would try for half a minute before it says so.
            huggingface_hub.HfApi().dataset_info(source.path, revision=source.revision, timeout=10)
        return datasets.load_dataset(source.path, source.name, split=source.split, revision=source.revision)
    except Exception as error:  # whatever these two libraries raise, the way out is the same
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"dataset '{source.path}' for split '{split}' cannot be had from the hub ({reason}); "
            f"name a local JSON Lines file with task.files.{split}=FILE"
        ) from error
