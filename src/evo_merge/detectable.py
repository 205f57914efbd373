"""What the test split of a run will be able to show, said before the search starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from evo_merge.statistics.intervals import is_binary
from evo_merge.statistics.paired import discordant_share
from evo_merge.statistics.power import ALPHA, POWER, detectable_difference, detectable_mean_difference

_UNRELATED = 0.5  # share of right and wrong answers in which two unrelated models differ that are right half the time: the most
_TOO_MUCH = 0.15  # a lead that merges seldom have over good models
_FEWEST = 2


@dataclass(frozen=True, slots=True)
class Detectable:
    """A sentence on the lead that the test split can show, and whether only a great one; a warning is to be made of that."""

    sentence: str
    is_great: bool


def before_scoring(n_test: int, n_rivals: int) -> str:
    """What n problems can show at least where answers are right or wrong, when no model has been asked yet."""
    one, several = (detectable_difference(n_test, _UNRELATED, alpha=alpha) for alpha in (ALPHA, ALPHA / max(1, n_rivals)))
    return (
        f"{_leads(n_test, one, several, n_rivals, is_share=True)}; for right or wrong answers that differ between two models "
        "on half of the problems; less where they agree more"
    )


def after_scoring(columns: Mapping[str, NDArray[np.float64]], n_test: int, n_rivals: int) -> Detectable | None:
    """What the test split can show, by how much the models that were there before the search differ on the search split.

    The two that differ most stand for the merge and its rival, so that others differ by less.

    Args:
        columns: ``(n_examples,)`` scores on the search split by model.
        n_test: Problems of the test split.
        n_rivals: With how many models the merge will be compared.

    Returns:
        ``None`` where fewer than two models have scores, or none of them ever differ.
    """
    pairs = list(combinations((column for column in columns.values() if len(column)), _FEWEST))
    pairs = [(a, b) for a, b in pairs if a.shape == b.shape]
    if not pairs or not any((a != b).any() for a, b in pairs):
        return None
    alphas = (ALPHA, ALPHA / max(1, n_rivals))
    if is_share := all(is_binary(column) for column in columns.values()):
        share = max(discordant_share(a, b) for a, b in pairs)
        one, several = (detectable_difference(n_test, share, alpha=alpha) for alpha in alphas)
        why = (
            f"models that were there before the search differ on up to {share:.0%} of the search problems, where a plan "
            "reckons with half"
        )
    else:
        deviation = max(float((a - b).std()) for a, b in pairs)
        one, several = (detectable_mean_difference(n_test, deviation, alpha=alpha) for alpha in alphas)
        why = f"the scores of models that were there before the search differ with a deviation of up to {deviation:.3g}"
    sentence = f"{_leads(n_test, one, several, n_rivals, is_share=is_share)}; {why}"
    return Detectable(sentence, is_share and (one is None or one > _TOO_MUCH))


def _leads(n_test: int, one: float | None, several: float | None, n_rivals: int, *, is_share: bool) -> str:
    if one is None:
        return f"{n_test} test problems are too few to show that one model is better than another"
    said = f"{n_test} test problems can show a lead of {_lead(one, is_share=is_share)} over one model"
    if n_rivals > 1:
        after = f"of {_lead(several, is_share=is_share)}" if several is not None else "of no size"
        said += f", and {after} after correction for {n_rivals} comparisons"
    return f"{said} ({POWER:.0%} power, p < {ALPHA:g})"


def _lead(value: float, *, is_share: bool) -> str:
    return f"{100 * value:.1f} points" if is_share else f"{value:.3g}"
