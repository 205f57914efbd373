"""The final table on the console."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from evo_merge.report.wording import p_value

_MOST_MEMBERS = 10  # of a front, as rows


def result_table(summary: Mapping[str, Any]) -> Table:
    """The content of ``summary.json`` as a table: everyone's test score, and by how much the best merge is above it.

    Of several objectives there is a column for each, and a row for each other member of the front.
    """
    if "objectives" in summary["test"]:
        return _table_of_several(summary)
    test = summary["test"]
    paired = test.get("paired", {})
    kinds = ("sources", "unoptimised", "stages", "ablation")
    groups = [(name, entry) for kind in kinds for name, entry in test.get(kind, {}).items()]
    entries = [*groups, ("evolved merge", test["best"])]
    is_fraction = are_fractions(entry["score"] for _, entry in entries)
    table = Table(
        title=f"{summary['task']}: {summary['objective']} on {test['n']} test examples",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        caption="p is corrected for all comparisons (Holm)" if sum(p["p"] is not None for p in paired.values()) > 1 else None,
        caption_justify="left",
    )
    table.add_column("model", overflow="fold")
    for heading in ("score", "95 % interval", "evolved is above by (95 % interval)", "p"):
        table.add_column(heading, justify="right")
    for name, entry in entries:
        pair = paired.get(name, {})
        table.add_row(
            Text(name),
            score_text(entry["score"], is_fraction),
            " to ".join(score_text(end, is_fraction) for end in entry["interval"] or ()),
            _difference_and_interval(pair, is_fraction) if pair else "",
            p_value(pair["p_adjusted"]) if pair else "",
            style="bold" if entry is test["best"] else None,
        )
    return table


def _table_of_several(summary: Mapping[str, Any]) -> Table:
    by_objective = summary["test"]["objectives"]
    table = Table(
        title=f"{summary['task']}: test scores; in brackets how far the evolved merge is above, p (Holm)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("model", overflow="fold")
    for objective, part in by_objective.items():
        table.add_column(f"{objective} ({part['n']} examples)", justify="right")
    kinds = ("sources", "unoptimised", "stages", "ablation", "front")
    first = by_objective[summary["objective"]]
    members = list(first["front"])
    left_out = members[_MOST_MEMBERS:]
    names = [name for kind in kinds for name in first.get(kind, {}) if name not in left_out]
    for name in names:
        what = f"{name}, on the front" if name in members else name
        cells = [_cell_of_several(part, kinds, name) for part in by_objective.values()]
        table.add_row(Text(what), *cells)
    if left_out:
        table.add_row(Text(f"and {len(left_out)} more on the front"))
    best = [score_text(part["best"]["score"], _is_fraction(part, kinds)) for part in by_objective.values()]
    table.add_row(Text("evolved merge"), *best, style="bold")
    return table


def _cell_of_several(part: Mapping[str, Any], kinds: Iterable[str], name: str) -> str:
    is_fraction = _is_fraction(part, kinds)
    entry = next((part[kind][name] for kind in kinds if name in part.get(kind, {})), None)
    if entry is None:
        return ""  # it failed
    pair = part["paired"].get(name)
    score = score_text(entry["score"], is_fraction)
    if pair is None:
        return score
    difference = _difference(pair["difference"], is_fraction).removesuffix(" points")
    p = p_value(pair["p_adjusted"])
    return f"{score} ({difference}, {p})" if p else f"{score} ({difference})"


def _is_fraction(part: Mapping[str, Any], kinds: Iterable[str]) -> bool:
    entries = [entry for kind in kinds for entry in part.get(kind, {}).values()]
    return are_fractions(entry["score"] for entry in (*entries, part["best"]))


def are_fractions(scores: Iterable[float]) -> bool:
    """Whether all lie between 0 and 1, so that they are shown in percent."""
    return all(0.0 <= score <= 1.0 for score in scores)


def score_text(score: float, is_fraction: bool) -> str:  # noqa: FBT001 - how all scores of one table are shown
    """``88.0 %``, or four digits of what is no fraction."""
    if not math.isfinite(score):
        return "none yet"
    return f"{100 * score:.1f} %" if is_fraction else f"{score:.4g}"


def _difference(difference: float, is_fraction: bool) -> str:  # noqa: FBT001
    return f"{100 * difference:+.1f} points" if is_fraction else f"{difference:+.4g}"


def _difference_and_interval(pair: Mapping[str, Any], is_fraction: bool) -> str:  # noqa: FBT001
    said = _difference(pair["difference"], is_fraction)
    if pair["interval"] is None:
        return said
    low, high = (_difference(end, is_fraction).removesuffix(" points") for end in pair["interval"])
    return f"{said} ({low} to {high})"
