"""How each task of the harness is answered, and what an answer is worth.

Balanced accuracy is the mean of the classes' accuracies. It is kept as one number an example, ``right * rows / (classes * rows
of its class)``, whose plain mean over the split is exactly that, and over a part of the split drawn at random an unbiased
estimate of it: so searches, intervals and paired tests take it as they take any score. What is no mean at all, Matthews'
correlation and the macro F1, is made of the kept answers (``corpus_metrics``) and only reported.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, Protocol

from evo_merge.tasks.base import Answering, Decoding, Likelihoods, LogLikelihood
from evo_merge.tasks.japanese import normalised, words
from evo_merge.tasks.jp_lmeh.prompts import JaExample, PromptVersion
from evo_merge.tasks.rouge import rouge_ja

_NUMBER = re.compile(r"(\-?[0-9\.\,]+)")
# What JSQuAD's F1 leaves out of the words (lm_eval/jasquad): ASCII punctuation and its full-width and Japanese relatives.
_PUNCTUATION = frozenset(
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
)


class Scoring(Protocol):
    """How a task is answered and scored.

    Attributes:
        metrics: Names, the task's own first.
        compares_words: Whether it needs the packages of the extra ``ja``.
    """

    metrics: tuple[str, ...]
    compares_words: bool

    def answering(self, example: JaExample, version: PromptVersion) -> Answering:
        """How it is answered."""

    def score(self, example: JaExample, answer: Any) -> tuple[float, ...]:
        """One number a metric, each 0 to 1 in the mean over a split."""


class Choices:
    """The most probable choice counts, by log-likelihood (``acc``) and by log-likelihood a character (``acc_norm``)."""

    metrics: tuple[str, ...] = ("accuracy", "accuracy_norm")
    compares_words = False

    def answering(self, example: JaExample, version: PromptVersion) -> Likelihoods:
        """Each choice after the prompt."""
        return _compared(example, version)

    def score(self, example: JaExample, answer: tuple[LogLikelihood, ...]) -> tuple[float, ...]:
        """Each 0 or 1; the first of equals is taken. Characters are those of the row's own choices."""
        totals = [each.total for each in answer]
        by_character = [total / len(choice) for total, choice in zip(totals, example.references, strict=True)]
        return tuple(float(values.index(max(values)) == example.right) for values in (totals, by_character))


class Classes:
    """The same for choices that all rows share, where each class counts alike (``balanced_acc``)."""

    metrics: tuple[str, ...] = ("balanced_accuracy", "accuracy")
    compares_words = False

    def answering(self, example: JaExample, version: PromptVersion) -> Likelihoods:
        """Each choice after the prompt."""
        return _compared(example, version)

    def score(self, example: JaExample, answer: tuple[LogLikelihood, ...]) -> tuple[float, ...]:
        """Right or not, times the class's weight and as it is."""
        totals = [each.total for each in answer]
        right = float(totals.index(max(totals)) == example.right)
        return right * example.weight, right

    def corpus_metrics(self, examples: Sequence[JaExample], completions: Sequence[str]) -> dict[str, float]:
        """``mcc`` and ``macro_f1`` of kept answers, which are the names of the classes."""
        pairs = [(each.right, each.references.index(text)) for each, text in zip(examples, completions, strict=True)]
        return {"mcc": matthews(pairs), "macro_f1": macro_f1(pairs)}


class Sentences:
    """Two whole sentences; the right one must be the more probable, so that equals are wrong."""

    metrics: tuple[str, ...] = ("accuracy",)
    compares_words = False

    def answering(self, example: JaExample, version: PromptVersion) -> Likelihoods:
        """Each choice after the prompt."""
        return _compared(example, version)

    def score(self, example: JaExample, answer: tuple[LogLikelihood, ...]) -> tuple[float, ...]:
        """0 or 1."""
        right, wrong = answer[example.right], answer[1 - example.right]
        return (float(right.total > wrong.total),)


class Spans:
    """A short answer in words: exact match, and F1 of the words, the better of the references (``lm_eval/jasquad``)."""

    metrics: tuple[str, ...] = ("exact_match", "f1")
    compares_words = True

    def answering(self, example: JaExample, version: PromptVersion) -> Decoding:
        """A line, at most as many tokens as the longest reference has."""
        return Decoding(0, (version.stop,), as_long_as=example.references)

    def score(self, example: JaExample, answer: str) -> tuple[float, ...]:
        """Exact match 0 or 1, F1 0 to 1."""
        exact = any(normalised(answer) == normalised(reference) for reference in example.references)
        return float(exact), max(_word_f1(answer, reference) for reference in example.references)


class Summaries:
    """ROUGE-2 of a summary."""

    metrics: tuple[str, ...] = ("rouge2",)
    compares_words = True

    def answering(self, example: JaExample, version: PromptVersion) -> Decoding:
        """A line, at most ten tokens more than the reference has."""
        return Decoding(10, (version.stop,), as_long_as=example.references)

    def score(self, example: JaExample, answer: str) -> tuple[float, ...]:
        """F, 0 to 1."""
        return rouge_ja(example.references[0], answer, ("rouge2",))


class Numbers:
    """The last number of a solution in steps; only a whole one counts."""

    metrics: tuple[str, ...] = ("accuracy",)
    compares_words = False

    def answering(self, example: JaExample, version: PromptVersion) -> Decoding:
        """A line of at most 256 tokens, the harness's usual limit."""
        return Decoding(256, (version.stop,))

    def score(self, example: JaExample, answer: str) -> tuple[float, ...]:
        """0 or 1."""
        return (float(last_number(answer) == float(example.answer)),)


def _compared(example: JaExample, version: PromptVersion) -> Likelihoods:
    """Each choice after the prompt; where that is empty BOS stands for it."""
    choices = version.choices_of(example)
    return Likelihoods(tuple((example.context, choice) for choice in choices), example.references)


def last_number(text: str) -> float | None:
    """As the harness reads it: thousands commas are dropped, digits are ASCII, and what is no whole number is none."""
    found = _NUMBER.findall(text)
    try:
        number = float(found[-1].strip(".").replace(",", "")) if found else math.nan
    except ValueError:
        return None
    return number if number.is_integer() else None


def matthews(pairs: Sequence[tuple[int, int]]) -> float:
    """Matthews' correlation of (gold, predicted) classes, -1 to 1; 0 where either is always the same (Gorodkin 2004)."""
    n = len(pairs)
    right = sum(gold == predicted for gold, predicted in pairs)
    classes = sorted({each for pair in pairs for each in pair})
    golds = [sum(gold == each for gold, _ in pairs) for each in classes]
    predicted = [sum(said == each for _, said in pairs) for each in classes]
    spread = (n * n - sum(p * p for p in predicted)) * (n * n - sum(g * g for g in golds))
    shared = right * n - sum(g * p for g, p in zip(golds, predicted, strict=True))
    return shared / math.sqrt(spread) if spread else 0.0


def macro_f1(pairs: Sequence[tuple[int, int]]) -> float:
    """The mean of the classes' F1, 0 to 1, over the classes that are gold or predicted."""
    classes = sorted({each for pair in pairs for each in pair})
    scores = []
    for each in classes:
        hits = sum(gold == predicted == each for gold, predicted in pairs)
        scores.append(2 * hits / sum((gold == each) + (predicted == each) for gold, predicted in pairs))
    return sum(scores) / len(scores) if scores else math.nan


def _word_f1(answer: str, reference: str) -> float:
    mine, theirs = ([word for word in words(text) if word not in _PUNCTUATION] for text in (answer, reference))
    left = list(theirs)
    shared = 0
    for word in mine:
        if word in left:
            left.remove(word)
            shared += 1
    return 2 * shared / (len(mine) + len(theirs)) if shared else 0.0
