"""Several tests read together: Holm's correction (1979), which no assumption about their dependence can break."""

from collections.abc import Sequence


def holm(p_values: Sequence[float], looks: int = 1) -> list[float]:
    """Holm's step-down adjustment, in the given order: all below alpha together with at most alpha of a false alarm.

    Args:
        p_values: Of the tests that are read together.
        looks: How often such a set was looked at, by someone who may keep the set that pleases: each p times that number
            first (Bonferroni).
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * looks * p_values[i]))
        adjusted[i] = largest
    return adjusted
