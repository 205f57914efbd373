import pytest

from evo_merge.errors import ConfigError
from evo_merge.evaluation.degenerate import Repetition, RepetitionCounter

RULE = Repetition(period=4, times=3, tokens=6)


def given_up_after(tokens, rule=RULE):
    """How many tokens were taken when the answer was given up, or ``None``."""
    counter = RepetitionCounter(rule)
    return next((n for n, token in enumerate(tokens, start=1) if counter.add(token)), None)


def by_definition(tokens, rule=RULE):
    """The same, word by word as the rule is stated."""
    for n in range(1, len(tokens) + 1):
        for period in range(1, rule.period + 1):
            length = max(period * rule.times, rule.tokens)
            end = tokens[n - length : n]
            if length <= n and all(end[i] == end[i - period] for i in range(period, length)):
                return n
    return None


@pytest.mark.parametrize(
    ("tokens", "n"),
    [
        ([1, 2, 3] + [7] * 20, 9),  # one token six times
        ([9] + [1, 2] * 10, 7),  # three rounds of two
        ([1, 2, 3, 4] * 3, 12),
        ([1, 2, 3, 4, 5] * 10, None),  # longer than the period
        ([5] * 5 + [6], None),  # not long enough
        ([1, 2, 3, 1, 2, 3, 1, 2, 4], None),
        ([], None),
    ],
)
def test_an_answer_is_given_up_when_a_short_cycle_was_seen_often_enough(tokens, n):
    assert given_up_after(tokens) == n


def test_counting_token_by_token_is_the_rule_as_stated():
    import random

    draw = random.Random(0)
    found = []
    for _ in range(300):
        tokens = [draw.randrange(3) for _ in range(draw.randrange(4))]
        cycle = [draw.randrange(3) for _ in range(draw.randrange(1, 6))]
        tokens += (cycle * 10)[: draw.randrange(30)] + [draw.randrange(3) for _ in range(20)]
        rule = Repetition(period=draw.randrange(1, 6), times=draw.randrange(2, 5), tokens=draw.randrange(2, 12))
        found.append(given_up_after(tokens, rule))
        assert found[-1] == by_definition(tokens, rule)
    assert None in found
    assert len(set(found)) > 10


@pytest.mark.parametrize("wrong", [{"period": 0}, {"times": 1}, {"tokens": 1}])
def test_a_rule_that_every_answer_breaks_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"generator\.degenerate\.\w+ must be at least"):
        Repetition(**({"period": 4, "times": 3, "tokens": 6} | wrong))
