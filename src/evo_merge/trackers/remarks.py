"""What the console says under the final table: what its rows do not show by themselves, a line each where it applies."""

from collections.abc import Iterator, Mapping
from typing import Any

from evo_merge.report.constraint_wording import constraint_sentence
from evo_merge.report.constraints import from_record
from evo_merge.report.summary import tested
from evo_merge.report.wording import SIGNIFICANT, counted, listing, p_clause


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """Sentences about the content of ``summary.json`` of a run that came to its end."""
    return [*_chosen(summary), *_missed(summary), *_above(summary), *_archive(summary)]


def _chosen(summary: Mapping[str, Any]) -> Iterator[str]:
    """Which member of a front the evolved merge is."""
    search = summary["search"]
    n = len(search.get("front", ()))
    if n > 1:
        what = "the knee" if n > 2 else "the one that gives up the less"
        yield f"The evolved merge is candidate {search['best_number']}, {what} of a front of {n}; recipes of all are in front/."


def _missed(summary: Mapping[str, Any]) -> Iterator[str]:
    """The constraints that the evolved merge kept to where it was chosen, and misses on the test split."""
    for constraint in from_record(summary["constraints"]):
        if "test" in constraint.checks and not constraint.checks["test"].is_kept:
            yield constraint_sentence(constraint)


def _above(summary: Mapping[str, Any]) -> Iterator[str]:
    """Who is beside the search, nowhere below the evolved merge on the test split and somewhere above it."""
    parts = {name: tested(summary, name) for name in summary["objectives"]}
    first = parts[summary["objective"]]
    for name in (name for kind in ("sources", "unoptimised", "stages") for name in first.get(kind, {})):
        pairs = {objective: part["paired"][name] for objective, part in parts.items() if name in part["paired"]}
        above = [objective for objective, pair in pairs.items() if pair["difference"] < 0]
        if len(pairs) < len(parts) or not above or any(pair["difference"] > 0 for pair in pairs.values()):
            continue
        p_values = [p for objective in above if (p := pairs[objective]["p_adjusted"]) is not None]
        clear = len(p_values) < len(above) or min(p_values) < SIGNIFICANT  # a number of the recipe is surely above
        where = "" if len(parts) == 1 else f" in {listing(above)} and nowhere below it"
        surely = "" if clear else ", which chance alone could explain"
        clause = f" ({p_clause(min(p_values))}, Holm)" if p_values else ""
        yield f"'{name}' scores above the evolved merge{where}{clause}{surely}."


def _archive(summary: Mapping[str, Any]) -> Iterator[str]:
    """How large an archive is, and what its members reach together on the last split that all of them were asked."""
    found = summary["search"].get("archive")
    if found is None:
        return
    said = f"The archive, archive/, holds {counted(found['members'], 'model')} in {counted(found['niches'], 'niche')}"
    if not found["together"]:  # each generation was asked other problems
        yield f"{said}."
        return
    row = found["together"][-1]  # test comes after search, all objectives after each
    together, alone = (_reached(row, row[key]) for key in ("any_member", "best_member"))
    of = f" ({row['objective']})" if len(summary["objectives"]) > 1 else ""
    best_on_it = f"with each {row['split']} problem left to the one that is best on it"
    yield f"{said}; {best_on_it} they reach {together}{of}, one alone {alone}."


def _reached(row: Mapping[str, Any], mean: float) -> str:
    return f"{round(mean * row['n'])} of {row['n']}" if row["is_binary"] else f"{mean:.4g}"
