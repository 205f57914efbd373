"""From numbers for every tensor to a short list of rules that says the same."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from evo_merge.recipe import ParameterRule

_TRIED = 4
Values = Mapping[str, tuple[float, ...] | float]


def shortened(values: Mapping[str, Values], filters: Sequence[str], layers: Iterable[str]) -> tuple[ParameterRule, ...]:
    """Rules of which the first that matches a tensor gives its values.

    Args:
        values: Of every tensor, by its full name.
        filters: Parts of names by which the values differ.
        layers: What the names of a layer's tensors begin with, for each layer.

    Returns:
        The rules; the last matches everything.
    """
    names = list(values)
    stems = list(layers)
    filters = [part for part in filters if not part.startswith(tuple(stems))]  # the names themselves say these
    globs = ["*", *(f"*{_plain(part)}*" for part in filters), *(f"{_plain(stem)}*" for stem in stems)]
    globs += [f"{_plain(stem)}*{_plain(part)}*" for stem in stems for part in filters]
    places = {name: 1 << place for place, name in enumerate(names)}
    reach = {glob: _union(places[name] for name in names if fnmatchcase(name, glob)) for glob in globs}
    reach |= {_plain(name): places[name] for name in names}
    alike: dict[Any, int] = {}  # the tensors of each set of values
    for name, each in values.items():
        alike[_key(each)] = alike.get(_key(each), 0) | places[name]
    key_of = [_key(each) for each in values.values()]
    # One set of values is best left for the end; which one is found by trying those that most tensors have.
    common = sorted(alike, key=lambda key: -alike[key].bit_count())[:_TRIED]
    found = [_taken(reach, _union(places.values()), key_of, alike, kept_for_last=key) for key in (*common, None)]
    shortest = min(found, key=lambda rules: sum(len(globs) for globs, _ in rules))
    return tuple(ParameterRule(tuple(globs), dict(key)) for globs, key in shortest)


def _taken(
    reach: Mapping[str, int], left: int, key_of: Sequence[Any], alike: Mapping[Any, int], *, kept_for_last: Any
) -> list[tuple[list[str], Any]]:
    """Rules found one by one, each the glob that takes most tensors of those that are left, all of them alike."""
    rules: list[tuple[list[str], Any]] = []
    while left:
        glob, key = _best(reach, left, key_of, alike, kept_for_last)
        if rules and rules[-1][1] == key:
            rules[-1][0].append(glob)
        else:
            rules.append(([glob], key))
        left &= ~reach[glob]
    rules[-1] = (["*"], rules[-1][1])
    return rules


def _best(
    reach: Mapping[str, int], left: int, key_of: Sequence[Any], alike: Mapping[Any, int], kept_for_last: Any
) -> tuple[str, Any]:
    best, most = ("*", kept_for_last), 0
    for glob, tensors in reach.items():
        taken = tensors & left
        if taken.bit_count() > most:
            key = key_of[(taken & -taken).bit_length() - 1]
            if key != kept_for_last and not taken & ~alike[key]:
                best, most = (glob, key), taken.bit_count()
    return best  # everything that is kept for last, where nothing else is left


def _union(bits: Iterable[int]) -> int:
    total = 0
    for bit in bits:
        total |= bit
    return total


def _key(values: Values) -> Any:
    return tuple(values.items())


def _plain(text: str) -> str:
    """A glob that means just this text."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
