"""What a model card says of a merge's evidence: its test scores, the constraints it was to keep to, and its limits."""

from collections.abc import Mapping
from typing import Any

from evo_merge.report.constraint_wording import constraint_sentence
from evo_merge.report.constraints import from_record
from evo_merge.report.wording import ROLES, ScoreFormat, listing, p_value


def results_told(summary: Mapping[str, Any]) -> list[str]:
    """The paragraphs of the part about results, from the content of ``summary.json``."""
    test = summary.get("test", {})
    kept = [f"- {constraint_sentence(constraint)}" for constraint in from_record(summary["constraints"])]
    constraints = ["\n".join(kept)] if kept else []
    if "best" not in test:
        return ["The merge has not been scored on test problems.", *constraints]
    if "objectives" not in test:
        return [*constraints, *_scores(summary["task"], summary["objective"], test)]
    told = [
        part for name, found in test["objectives"].items() for part in (f"### {name}", *_scores(summary["task"], name, found))
    ]
    return [_chosen_among(summary), *constraints, *told]


def _chosen_among(summary: Mapping[str, Any]) -> str:
    """How several objectives made one choice."""
    names = listing([f"`{name}`" for name in summary["objectives"]])
    if summary["fitness"] != summary["objectives"]:
        return f"The search maximised `{summary['fitness'][0]}`, one number made of {names}."
    n = len(summary["search"]["front"])
    found = f"one of {n} merges that are" if n > 1 else "the only merge that is"
    kept = " that keep to the constraints" if summary["constraints"] else ""
    among = f"all candidates{kept}"
    if summary["selection"] == "validation":
        among = f"the finalists{kept}, by their scores on the validation split"
    return f"The search maximised {names}, each by itself. This is {found} on the Pareto front of {among}."


def _scores(task: str, objective: str, test: Mapping[str, Any]) -> list[str]:
    """The test scores in one objective."""
    entries = [
        (ROLES["best"], test["best"], None),
        *((name, entry, "source model") for name, entry in test["sources"].items()),
        *((name, entry, "merge without a search") for name, entry in test["unoptimised"].items()),
        *((name, entry, ROLES["stage"]) for name, entry in test.get("stages", {}).items()),
        *((name, entry, ROLES["ablation"]) for name, entry in test.get("ablation", {}).items()),
    ]
    written = ScoreFormat(all(0 <= entry["score"] <= 1 for _, entry, _ in entries))
    rows = ["| model | | score | 95 % interval | evolved merge ahead by | p (Holm) |", "|---|---|---:|---:|---:|---:|"]
    for name, entry, kind in entries:
        against = test["paired"].get(name) if kind is not None else None
        difference = "" if against is None else written.difference(against["difference"])
        p = "" if against is None else p_value(against["p_adjusted"])
        cells = (
            _cell(f"**{name}**" if kind is None else name),
            kind or "",
            written.score(entry["score"]),
            written.bounds(entry["interval"]),
            difference,
            p,
        )
        rows.append(f"| {' | '.join(cells)} |")
    intro = (
        f"Mean `{objective}` on the {test['n']} test problems of `{task}`, which the search "
        "never saw; p is from a paired test on the same problems, corrected for all comparisons."
    )
    return [intro, "\n".join(rows)]


def limits_told(summary: Mapping[str, Any]) -> str:
    """The paragraph about limits."""
    said = (
        f"The merge was selected for `{summary['task']}`; what it does elsewhere was not measured. It carries the "
        "limits and biases of its sources, and nothing was done to align or to filter it."
    )
    missed = [c for c in from_record(summary["constraints"]) if "test" in c.checks and not c.checks["test"].is_kept]
    said += "".join(f" **It misses a constraint on the test split.** {constraint_sentence(each)}" for each in missed)
    best = summary.get("search", {}).get("best")
    if best is None:
        return said
    if len(summary["objectives"]) > 1:
        return f"{said} It was chosen among many by its scores on the search problems, which flatter it; test scores do not."
    written = ScoreFormat(0 <= best <= 1)
    asked = "search problems of its generation" if summary["search"].get("batches") else "search problems"
    selection = summary["search"].get("selection", {"corrected": 1.0, "observed": 0.0})
    if selection["corrected"] < selection["observed"]:
        return (
            f"{said} It was chosen as the best of {selection['n_candidates']} by its score on the {selection['split']} "
            f"problems ({written.score(selection['observed'])}), which flatters it; corrected for the choice it is "
            f"{written.score(selection['corrected'])}. The test score needs no correction."
        )
    return (
        f"{said} Its score on the {asked} ({written.score(best)}) is the best of many and flatters it; the test score does not."
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
