"""How the number is read out of a completion: as the released MGSM-JA scorer does it, or as a person would.

An option names one of ``PARSERS``. Whatever reads the completions, references are read by ``strict``.
"""

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal

_RELEASED_NUMBER = re.compile(r"\d*\.?\d+")

# Full-width forms and the many minus signs. NFKC would do more than is wanted: it turns "25㎡" into "25m2".
_PLAIN_FORMS = str.maketrans("０１２３４５６７８９，．＋－−﹣‐–", "0123456789,.+-----")

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
_NUMBER = re.compile(
    r"(?P<sign>(?:-|マイナス)[$¥￥€£]?)?"
    # 3万5千 is one number; in "No.5" and "...5" the point belongs to the words.
    rf"(?P<magnitude>{_DIGITS}(?:[百千万億兆]+(?:{_DIGITS})?)*|(?<![0-9A-Za-z.])\.[0-9]+)"
)
_DIGITS_OR_UNIT = re.compile(rf"{_DIGITS}|[百千万億兆]")

# A hyphen after one of these subtracts: 12, 12個, 12cm, 12%, with or without a space; x and ")" only if it touches them
# ("is -5" is no subtraction).
_LEFT_OPERAND = re.compile(r"(?:[0-9百千万億兆％%][^\S\n]*|[0-9百千万億兆][一-鿿ァ-ヶーA-Za-z]{1,3}[^\S\n]*|[A-Za-z)）])$")

_SMALL_UNITS = {"百": 100, "千": 1_000}
_LARGE_UNITS = {"万": 10**4, "億": 10**8, "兆": 10**12}


def release(text: str) -> float | None:
    r"""Read the last match of ``\d*\.?\d+``, as the released scorer does.

    Its quirks are kept: "1,000" is 0, "-5" is 5, "15/1" is 1, and full-width digits count as digits.

    Returns:
        The number; ``None`` where the text has none.
    """
    matches = _RELEASED_NUMBER.findall(text)
    return float(matches[-1]) if matches else None


def strict(text: str) -> float | None:
    """Read the last number as it is meant.

    Understands thousands separators, full-width digits, decimals, signs and units after a digit (3万5千). A hyphen
    after an operand (12-5, 2024-11-05) subtracts or joins; elsewhere it is a sign if it touches the number. Neither
    fractions nor numbers written in kanji alone are read.

    Returns:
        The number; ``None`` where the text has none, or none that a float can hold.
    """
    plain = text.translate(_PLAIN_FORMS)
    matches = list(_NUMBER.finditer(plain))
    if not matches:
        return None
    last = matches[-1]
    number = float(_magnitude(last["magnitude"]))
    if not math.isfinite(number):
        return None
    is_negative = last["sign"] is not None and not _LEFT_OPERAND.search(plain[: last.start()])
    return -number if is_negative else number


def _magnitude(text: str) -> Decimal:
    """Add up what the units multiply: 2億3千5万6 is 2·10⁸ + (3·10³ + 5)·10⁴ + 6."""
    total = below_large_unit = Decimal(0)
    digits: Decimal | None = None
    for part in _DIGITS_OR_UNIT.findall(text if text[0] != "." else f"0{text}"):
        if part in _SMALL_UNITS:
            below_large_unit += (Decimal(1) if digits is None else digits) * _SMALL_UNITS[part]
            digits = None
        elif part in _LARGE_UNITS:
            # In 3百万 the unit before 万 has taken the digits already.
            total += (below_large_unit + (digits or 0)) * _LARGE_UNITS[part]
            below_large_unit, digits = Decimal(0), None
        else:
            digits = Decimal(part.replace(",", ""))
    return total + below_large_unit + (digits or 0)


PARSERS: Mapping[str, Callable[[str], float | None]] = {"release": release, "strict": strict}
