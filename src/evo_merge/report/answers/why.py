"""Why an answer with the right number in it is wrong, where the task knows: it is not in the language that was asked for."""

from collections.abc import Mapping

import numpy as np
import yaml
from numpy.typing import NDArray

from evo_merge.evaluation.base import Evaluation

# Metrics of ``tasks.question_answer``, of which the first is the other two at once.
_BOTH, _CORRECT, _LANGUAGE = "accuracy", "correct", "language_ok"
_NAMES = {
    "ar": "Arabic",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "pt": "Portuguese",
    "ru": "Russian",
    "zh": "Chinese",
}


def wanted_languages(config: str | None) -> dict[str, str]:
    """The language that answers had to be in, by the part of the run's task (empty for a task that has none)."""
    task = (yaml.safe_load(config or "") or {}).get("task") or {}
    parts = {"": task, **(task.get("parts") or {})}
    return {name: part["language"] for name, part in parts.items() if isinstance(part, dict) and part.get("language")}


def reasons(metric: str) -> tuple[str, ...]:
    """The metrics that say why an answer is wrong by that one; none where it is made of no others."""
    part, slash, name = metric.rpartition("/")
    return tuple(f"{part}{slash}{other}" for other in (_CORRECT, _LANGUAGE)) if name == _BOTH else ()


def whys(evaluation: Evaluation, metric: str, languages: Mapping[str, str]) -> tuple[str, ...]:
    """For every row ``not Japanese`` where that alone is wrong by the metric, and else nothing."""
    columns, language = reasons(metric), languages.get(metric.rpartition("/")[0])
    if not columns or language is None or any(column not in evaluation.metrics for column in columns):
        return ("",) * len(evaluation.scores)
    correct, in_language = (_column(evaluation, column) for column in columns)
    said = f"not {_NAMES.get(language, f'in {language!r}')}"
    return tuple(said if is_right and not ok else "" for is_right, ok in zip(correct, in_language, strict=True))


def _column(evaluation: Evaluation, name: str) -> NDArray[np.bool_]:
    return np.asarray(evaluation.scores[:, evaluation.metrics.index(name)] > 0)  # nan is not
