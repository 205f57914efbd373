"""``--help`` of a command, read from the comments of its config: ``conf/config.yaml``, ``conf/build.yaml`` and so on.

Their form: the comment at the top is the usage, what the command does and examples. A comment beside an entry says what it
means, and goes on in the lines below that are nothing but a comment. A part without one is not shown.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_WIDTH = 120  # at most
_KEYS_END = 30  # where the meanings begin
_ENTRY = re.compile(r"(?P<indent> *)(?P<part>- )?(?P<key>\w+):(?: +(?P<value>[^\s#].*?))?(?: +# (?P<text>.*))?")
_BELOW = re.compile(r" +# (?P<text>.*)")
_END = "hydra"  # what stands below is about Hydra
_REQUIRED = "???"

_PARTS = "Parts (part=choice; the first is the default):"
_OPTIONS = "Options, with their defaults{}:"
_FOOT = """\
Every number, also those of the parts: {command} --cfg job; of one part: --cfg job --package {part}
What Hydra itself can, such as --multirun: --hydra-help"""


@dataclass(frozen=True)
class _Entry:
    """A part or an option.

    Attributes:
        key: Its name; of an option inside another both, with a dot.
        default: As it is written in the config; empty where options inside have their own.
        text: What it means; empty where nothing is said.
    """

    key: str
    default: str
    text: str

    @property
    def typed(self) -> str:
        """The option as it is typed."""
        return f"{self.key}={self.default.replace(_REQUIRED, '…')}" if self.default else self.key


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether one of a command's words is ``--help`` or ``-h``."""
    return any(word in ("-h", "--help") for word in words)


def help_of(conf: Path, name: str, words: Sequence[str] = ()) -> str:
    """The help of a command.

    Args:
        conf: The folder of all configs.
        name: Of the command's config.
        words: The command line; choices in the folder of ``--config-dir`` are listed too.
    """
    lines = (conf / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    n_head = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    head = [line.removeprefix("#").removeprefix(" ") for line in lines[:n_head]]
    parts, options = _entries(lines[n_head:])
    width = min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns)
    blocks = ["\n".join(head)]
    if parts:
        rows = [_row(part.key, part.text, width) + _choices(part, [conf, *_added(words)], width) for part in parts]
        blocks.append("\n".join([_PARTS, *rows]))
    rows = [_row(each.typed, each.text, width) for each in options]
    note = " (… must be given)" if any(each.default == _REQUIRED for each in options) else ""
    blocks.append("\n".join([_OPTIONS.format(note), *rows]))
    if parts:
        command = "python -m evo_merge" + ("" if name == "config" else f".{name}")
        blocks.append(_FOOT.format(command=command, part=parts[0].key))
    return "\n\n".join(blocks)


def _entries(lines: Sequence[str]) -> tuple[list[_Entry], list[_Entry]]:
    """The parts that a config names under ``defaults``, and its options."""
    found: list[list[str]] = []  # whether a part, key, default, text
    above = ""
    for line in lines:
        if found and (more := _BELOW.fullmatch(line)):
            found[-1][3] += f" {more['text']}"
        if not (entry := _ENTRY.fullmatch(line)):
            continue
        if not entry["indent"]:
            above = entry["key"]
        if above == _END:
            break
        if entry["value"] is not None:
            key = entry["key"] if not entry["indent"] or entry["part"] else f"{above}.{entry['key']}"
            found.append([entry["part"] or "", key, entry["value"], entry["text"] or ""])
        elif entry["text"]:  # what options inside have in common
            found.append(["", above, "", entry["text"]])
    parts = [_Entry(*each) for is_part, *each in found if is_part and each[2]]
    return parts, [_Entry(*each) for is_part, *each in found if not is_part]


def _choices(part: _Entry, folders: Sequence[Path], width: int) -> str:
    """Lines with what a part may be, and what the parts inside it may be."""
    lines = []
    for group, default in [(part.key, part.default), *((f"{part.key}/{inner}", "") for inner in _inside(part.key, folders))]:
        names = {file.stem for folder in folders for file in (folder / group).glob("*.yaml")}
        listed = ", ".join([*([default] if default else []), *sorted(names - {default})])
        named = listed if group == part.key else f"{group}={listed}"
        indent = " " * (4 if group == part.key else 6)
        lines.append(textwrap.fill(named, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False))
    return "".join(f"\n{line}" for line in lines)


def _inside(group: str, folders: Sequence[Path]) -> Iterator[str]:
    """Groups inside a group; a folder beside a file of its name holds pieces of that."""
    for folder in folders:
        for path in sorted((folder / group).glob("*/")):
            if not path.with_suffix(".yaml").is_file():
                yield path.name


def _added(words: Sequence[str]) -> list[Path]:
    """The folder that ``--config-dir`` names."""
    for word, following in zip(words, (*words[1:], ""), strict=False):
        key, is_joined, value = word.partition("=")
        if key in ("--config-dir", "-cd"):
            return [Path(value if is_joined else following).expanduser()]
    return []


def _row(key: str, text: str, width: int) -> str:
    start = f"  {key}".ljust(_KEYS_END)
    if len(start) > _KEYS_END:
        start += "  "
    return textwrap.fill(
        start + text, width, subsequent_indent=" " * _KEYS_END, break_on_hyphens=False, break_long_words=False
    ).rstrip()
