"""Japanese text as the published scorers compare it: without emoji, normalised by neologdn, in words by MeCab and UniDic lite.

So do the ROUGE of the paper's release and the exact match and F1 of the jp-stable harness.
"""

import importlib.util
import re
from functools import cache
from typing import Any

from evo_merge.errors import ConfigError

PACKAGES = {
    "fugashi": "fugashi",
    "unidic_lite": "unidic-lite",
    "neologdn": "neologdn",
    "emoji": "emoji",
    "rouge_score": "rouge-score",
}
# Ranges that the release takes out besides what the emoji package knows.
_EMOJI = re.compile(
    "[\N{GRINNING FACE}-\N{PERSON WITH FOLDED HANDS}\N{CYCLONE}-\N{MOYAI}\N{ROCKET}-\U0001f6ff"
    "\U0001f1e0-\U0001f1ff\N{BLACK SCISSORS}-\N{CURLY LOOP}]+"
)


def check_installed(task: str) -> None:
    """Raise ``ConfigError`` where a package is missing, before any model is read."""
    missing = [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"task '{task}' compares Japanese text and needs {', '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install 'evo-merge[ja]', or "
            f"pip install {' '.join(missing)}"
        )


def normalised(text: str) -> str:
    """Without emoji; widths, dashes, repeated letters and spaces as neologdn writes them."""
    import emoji
    import neologdn

    kept = _EMOJI.sub("", "".join(letter for letter in text if not emoji.is_emoji(letter)))
    return " ".join(neologdn.normalize(kept).split())


def words(text: str) -> list[str]:
    """The normalised text's words."""
    return str(_tagger().parse(normalised(text))).split()


@cache
def _tagger() -> Any:
    import fugashi
    import unidic_lite

    # Named, for fugashi would take the larger UniDic where that is installed too.
    return fugashi.Tagger(f'-Owakati -d "{unidic_lite.DICDIR}" -r "{unidic_lite.DICDIR}/mecabrc"')
