"""The harness' metrics as numbers per problem whose mean is the harness' result.

Its results are aggregates over a split, ours are means over problems, so a metric is taken where the one is the other:

=====================================  ==============================================================================
aggregation of the harness             here
=====================================  ==============================================================================
``mean``, ``nanmean``                  as it is; where lower is better ``minus_<metric>``, its negative
``perplexity``                         ``log_likelihood``; the perplexity is exp(-mean)
``weighted_perplexity``                ``log_likelihood_per_word`` (or byte): log-likelihood over the split's mean number
                                       of words, so that the perplexity is exp(-mean)
``bits_per_byte``                      ``log_likelihood_per_byte``; the bits are -mean / ln 2
f1, mcc, bleu, chrf, a function, ...   left out: no number of a problem by itself has it as its mean
=====================================  ==============================================================================
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evo_merge.errors import ConfigError, DataError
from evo_merge.tasks.base import Answering, Likelihoods, LogLikelihood
from evo_merge.tasks.harness.requests import Answer, Asked, Outcomes, outcomes

log = logging.getLogger(__name__)

Kind = Literal["mean", "minus", "log_likelihood", "per_weight"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A number per problem.

    Attributes:
        name: What the run calls it: the harness' name, with ``.<filter>`` where the task has several filters.
        key: The harness' name of it.
        filter: Of which filter's results.
        kind: How the harness' value becomes the number.
    """

    name: str
    key: str
    filter: str
    kind: Kind

    def of(self, found: Outcomes, task: str) -> float:
        """The number; nan where the problem is not one of the metric's. ``DataError`` where it is none."""
        values = found.get(self.filter, {})
        if self.key not in values:
            return math.nan
        value = values[self.key]
        value = value[0] if self.kind == "per_weight" else value
        if not _is_number(value):
            raise DataError(
                f"harness task '{task}' scored '{self.key}' as {value!r}, which is no number, though its mean is taken"
            )
        return -float(value) if self.kind == "minus" else float(value)

    def weight_of(self, found: Outcomes) -> float:
        """What the harness divides by: words or bytes of the text where it is weighted, else 1."""
        return float(found[self.filter][self.key][1]) if self.kind == "per_weight" else 1.0


def metrics_of(task: Any, doc: Any, first: Asked) -> tuple[Metric, ...]:
    """A task's metrics, in its own order.

    Args:
        task: Of the harness.
        doc: Any of its problems: scored once with a poor answer, to see what its code gives.
        first: How that is asked.

    Raises:
        ConfigError: None of the task's metrics can be a mean.
    """
    declared = task.aggregation()
    try:
        found = outcomes(task, doc, first.instances, poor_answer(first.answering))
    except DataError:  # code that fails on an empty answer is told so when it meets one
        found = {each.name: {} for each in task._filters}
    metrics: dict[str, Metric] = {}
    left_out: dict[str, str] = {}
    for filter_name, values in found.items():
        # A metric may give several numbers (rouge1, rouge2), which only its results name.
        for key in dict.fromkeys([*(key for key in declared if key in values or not values), *values]):
            kind, aggregation = _kind(task, key)
            if kind is None or (key in values and not _is_number(_first(values[key], kind))):
                left_out[key] = aggregation
                continue
            plain = _name(key, kind)
            name = f"{plain}.{filter_name}" if len(found) > 1 else plain
            metrics.setdefault(name, Metric(name, key, filter_name, kind))
    said = ", ".join(f"{key} (aggregation {aggregation})" for key, aggregation in left_out.items())
    if not metrics:
        raise ConfigError(
            f"harness task '{task.task_name}' has no metric that is a mean over its problems, which an objective must be"
            f"{f': it has {said}' if said else ''}; give its YAML a metric_list with one, such as exact_match or acc"
        )
    if left_out:
        log.warning("harness task '%s': left out, since they are no mean over problems: %s", task.task_name, said)
    return tuple(metrics.values())


def poor_answer(answering: Answering) -> Answer:
    """Nothing written, or choices the less likely the later they come."""
    if isinstance(answering, Likelihoods):
        return tuple(LogLikelihood(-1.0 - i, is_greedy=False, n_tokens=1) for i in range(len(answering.pairs)))
    return ""


def mean_weight(metric: Metric, task: Any, docs: Sequence[tuple[Any, Asked]]) -> float:
    """Of a split, by which a weighted metric is divided; 1 for the others."""
    if metric.kind != "per_weight" or not docs:
        return 1.0
    weights = [metric.weight_of(outcomes(task, doc, each.instances, poor_answer(each.answering))) for doc, each in docs]
    return sum(weights) / len(weights)


def _kind(task: Any, key: str) -> tuple[Kind | None, str]:
    from lm_eval.api import metrics as theirs

    aggregation = task.aggregation().get(key, theirs.mean)  # as the harness does where none is declared
    kinds: dict[Any, Kind] = {
        theirs.mean: "mean",
        theirs.nanmean: "mean",
        theirs.perplexity: "log_likelihood",
        theirs.weighted_perplexity: "per_weight",
        theirs.bits_per_byte: "per_weight",
    }
    kind = kinds.get(aggregation)
    if kind == "mean" and not task.higher_is_better().get(key, True):
        kind = "minus"
    return kind, str(getattr(aggregation, "__name__", aggregation))


def _name(key: str, kind: Kind) -> str:
    if kind == "per_weight":
        return f"log_likelihood_per_{'byte' if key == 'bits_per_byte' else key.removesuffix('_perplexity')}"
    return {"mean": key, "minus": f"minus_{key}", "log_likelihood": "log_likelihood"}[kind]


def _first(value: Any, kind: Kind) -> Any:
    return value[0] if kind == "per_weight" and isinstance(value, tuple | list) and len(value) == 2 else value


def _is_number(value: Any) -> bool:
    import numpy as np

    return isinstance(value, int | float | np.number | np.bool_)
