"""A YAML file that knows on which line each of its values stands, so that errors can say where."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from evo_merge.command_line import nearest
from evo_merge.errors import RecipeError
from evo_merge.yaml_errors import not_yaml

Place: TypeAlias = tuple[str | int, ...]  # keys and numbers of entries that lead to a value


@dataclass(frozen=True, slots=True)
class Document:
    """The plain values of a YAML file.

    Attributes:
        origin: What messages call the file.
        value: Everything in it.
        lines: Line of every value, from 1; of a mapping's value that of its key.
    """

    origin: str
    value: Any
    lines: dict[Place, int]

    @classmethod
    def read(cls, text: str, origin: str) -> "Document":
        """Read YAML; raises ``RecipeError`` where it is none, or where a mapping has a key twice."""
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            _refuse_twice(node, origin)
            value = None if node is None else loader.construct_document(node)
        except yaml.YAMLError as error:
            raise RecipeError(not_yaml(origin, error)) from error
        finally:
            loader.dispose()
        return cls(origin, value, dict(_lines(node, ())))

    def error(self, place: Place, text: str) -> RecipeError:
        """An error that begins with the file and the line of a value, or of the nearest value around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return RecipeError(f"{self.origin}, line {self.lines.get(place, 1)}: {text}")

    def mapping(self, value: Any, place: Place, known: Sequence[str] | None = None) -> dict[str, Any]:
        """The value as a mapping, ``None`` as an empty one; refuses other values, and keys that are not known."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.error(place, f"'{place[-1] if place else 'the file'}' must be a mapping, got {value!r}")
        for key in value:
            if known is not None and key not in known:
                raise self.error((*place, key), f"unknown key '{key}'; {nearest(str(key), known)}")
        return value

    def list_of(self, value: Any, place: Place) -> list[Any]:
        """The value as a list that is not empty."""
        if not isinstance(value, list) or not value:
            raise self.error(place, f"'{place[-1]}' must be a list with at least one entry, got {value!r}")
        return value


def _refuse_twice(node: yaml.Node | None, origin: str) -> None:
    """Refuse a key that is written twice: YAML would take the last one without a word."""
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            _refuse_twice(entry, origin)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise RecipeError(
                    f"{origin}, line {line}: '{key.value}' stands twice here, first on line {seen[key.value]}; keep one of them"
                )
            seen[key.value] = line
        _refuse_twice(value, origin)


def _lines(node: yaml.Node | None, place: Place) -> Iterator[tuple[Place, int]]:
    if node is None:
        return
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, key.value)
            yield from _lines(value, inner)
            yield inner, key.start_mark.line + 1  # the last one stays
    elif isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            yield from _lines(entry, (*place, number))
