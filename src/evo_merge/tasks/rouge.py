"""ROUGE of Japanese text, as in the paper's release (``evomerge/eval/metrics.py``): F over words of ``japanese.words``."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evo_merge.evaluation import language as languages
from evo_merge.tasks.japanese import words

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL")


def rouge_ja(reference: str, prediction: str, types: Sequence[str] = ROUGE_TYPES) -> tuple[float, ...]:
    """F of each type, 0 to 1."""
    scores = _scorer(tuple(types)).score(reference, prediction)
    return tuple(float(scores[name].fmeasure) for name in types)


def or_empty(references: Sequence[str], predictions: Sequence[str]) -> list[str]:
    """The predictions, empty where one is not Japanese and its reference is (the release's ``_ja`` numbers)."""
    pairs = zip(references, predictions, strict=True)
    return ["" if _is_japanese(reference) and not _is_japanese(text) else text for reference, text in pairs]


def release_mid(scores: NDArray[np.float64], draws: np.random.RandomState, n_samples: int = 1000) -> NDArray[np.float64]:
    """What the release prints: the median of 1000 bootstrap means, times 100.

    It differs from the mean by chance, about 0.3 points for 40 texts, so that only the same draws give the same number: those
    of ``rouge_score.scoring.BootstrapAggregator``, from numpy's old generator.

    Args:
        scores: ``(n, n_types)``, in the order of ``ROUGE_TYPES``, each 0 to 1.
        draws: What is drawn from; the release's is ``RandomState(0)`` here, and its ``_ja`` numbers go on with the same one.
        n_samples: How many means.

    Returns:
        ``(n_types,)``, 0 to 100.
    """
    n = len(scores)
    mids = []
    for column in scores.T:  # each type has draws of its own, one type after another
        means = [column[draws.choice(np.arange(n), size=n)].mean() for _ in range(n_samples)]
        mids.append(np.percentile(means, 50))
    return 100 * np.asarray(mids, dtype=np.float64)


def _is_japanese(text: str) -> bool:
    return languages.probability(text, "ja") >= 0.5


class _Words:
    """What the library calls to cut a text."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@cache
def _scorer(types: tuple[str, ...]) -> Any:
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(list(types), tokenizer=_Words())
