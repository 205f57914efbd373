"""Degenerate text: an answer that repeats a cycle of tokens and so will go on repeating it."""

from collections import defaultdict
from dataclasses import dataclass

from evo_merge.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """When an answer counts as degenerate: its last tokens are a cycle, seen so many times in a row, and so many tokens long.

    Attributes:
        period: The longest cycle, in tokens.
        times: How often it must have been seen.
        tokens: How long all of its rounds must be together, so that a row of ten zeros or a ruled line is none.
    """

    period: int
    times: int
    tokens: int

    def __post_init__(self) -> None:
        for name, least in (("period", 1), ("times", 2), ("tokens", 2)):
            if getattr(self, name) < least:
                raise ConfigError(f"generator.degenerate.{name} must be at least {least}, got {getattr(self, name)}")


def checked(rule: object) -> Repetition | None:
    """What a yaml gives for ``generator.degenerate``; raises ``ConfigError`` where that is no rule."""
    if rule is None or isinstance(rule, Repetition):
        return rule
    raise ConfigError(
        "generator.degenerate must be null or say when an answer is given up, such as generator.degenerate.times=6, "
        f"got {rule!r}"
    )


class RepetitionCounter:
    """Follows one answer token by token, in time that grows with how often its last token came before, not with the period."""

    def __init__(self, rule: Repetition) -> None:
        self._rule = rule
        self._n_tokens = 0
        self._places: dict[int, list[int]] = defaultdict(list)  # of each token, the last few
        self._runs: dict[int, int] = {}  # by period: how many tokens in a row were those of a period before

    def add(self, token: int) -> bool:
        """Take the answer's next token; whether the answer is degenerate with it."""
        rule, here = self._rule, self._n_tokens
        places = [place for place in self._places[token] if here - place <= rule.period]
        self._runs = {here - place: self._runs.get(here - place, 0) + 1 for place in places}
        self._places[token] = [*places, here]
        self._n_tokens += 1
        return any(run + period >= max(period * rule.times, rule.tokens) for period, run in self._runs.items())
