"""The result of a run with several objectives in plain sentences: each by itself, since no average would mean anything."""

from collections.abc import Mapping
from typing import Any

from evo_merge.report.constraint_wording import constraint_points
from evo_merge.report.narrative import SIGNIFICANT, Narrative, compared, rivals, unfinished, what_was_done
from evo_merge.report.results import RunResults
from evo_merge.report.summary import tested
from evo_merge.report.views import views
from evo_merge.report.wording import counted, formula, listing, score_format, search_format

_MOST_SOURCES = 4  # that are compared one by one; of more only the best


def narrate_several(results: RunResults, summary: Mapping[str, Any]) -> Narrative:
    """Put the content of ``summary.json`` into words."""
    said = [what_was_done(results), _aim(results)]
    points = constraint_points(results)
    if not results.is_tested:
        said.append(_so_far(results))
        return Narrative("No final result yet.", " ".join(said), unfinished(results), points)
    said.append(_found(results))
    if results.n_choices > 1:
        said.append(
            f"The run was resumed and chose {results.n_choices} different merges, each scored on the test split, which is "
            "therefore no longer untouched."
        )
    n_compared = sum(len(tested(summary, name)["paired"]) for name in results.objectives)
    if n_compared > 1:
        said.append(f"(Values of p are corrected for the {n_compared} comparisons of all objectives.)")
    scores = (_scores(view, tested(summary, view.objective)) for view in views(results))
    return Narrative(_verdict(results, summary), " ".join(said), "", (*scores, *points))


def _aim(results: RunResults) -> str:
    names = listing(results.objectives)
    if results.is_scalarized:
        return f"The search made one number of {names}: {formula(results)}. Below, each is looked at by itself."
    return f"It was to maximise {names}, each by itself."


def _found(results: RunResults) -> str:
    if not results.has_front:
        scored, written = results.best_candidate, search_format(results)
        if scored is None or scored.score is None:
            return ""
        return f"The chosen candidate, number {scored.number}, has {written.score(scored.score)} of it on the search split."
    split = "the validation split" if results.selection == "validation" else "the search split"
    n = len(results.front)
    asked = "the finalists" if results.selection == "validation" else "all that were tried"
    asked += " and keep to the constraints" if results.constraints else ""
    if n == 1:
        return f"On {split} one candidate, number {results.best_number}, is in no objective worse than any of {asked}."
    knee = (
        f"The chosen one, candidate {results.best_number}, is the knee, furthest from the line or plane through its ends."
        if n > 2
        else f"The chosen one, candidate {results.best_number}, gives up the less: with each objective scaled over all "
        "candidates, its sum is the greater."
    )
    return (
        f"{n} candidates are on the Pareto front: on {split}, none of {asked} is better than one of them in an "
        f"objective without being worse in another. {knee} Which member to prefer is for you to say."
    )


def _so_far(results: RunResults) -> str:
    leader = results.best_candidate
    if leader is None or not leader.fitness:
        return ""
    formats = [score_format(view) for view in views(results)] if results.has_front else [search_format(results)]
    scores = zip(results.fitness_names, leader.fitness, formats, strict=True)
    told = listing([f"{written.score(value)} in {name}" for name, value, written in scores])
    who = f"The front so far has {counted(len(results.front), 'member')}; its knee" if results.has_front else "The best so far"
    return (
        f"{who}, candidate {leader.number}, scores {told} on the problems of the search split that it was asked; chosen as the "
        "best of many, it will probably score less on problems that it was not chosen by."
    )


def _verdict(results: RunResults, summary: Mapping[str, Any]) -> str:
    """How the chosen merge compares with the best source of each objective."""
    clauses: dict[str, list[str]] = {
        "beats the best source in": [],
        "does not clearly differ from it in": [],
        "is worse in": [],
    }
    for view in views(results):
        part = tested(summary, view.objective)
        source = next((rival for rival in rivals(view, part) if rival.what == "the best source"), None)
        if source is None:
            continue
        paired = part["paired"][source.name]
        kinds = list(clauses)
        kind = kinds[1] if paired["p_holm"] >= SIGNIFICANT else kinds[0] if paired["difference"] > 0 else kinds[2]
        clauses[kind].append(view.objective)
    said = [f"{verb} {listing(names)}" for verb, names in clauses.items() if names]
    if said:
        said[0] = (
            said[0].replace("from it in", "from the best source in").replace("is worse in", "is worse than the best source in")
        )
    n = len(results.front)
    who = "The evolved merge"
    if results.has_front and n > 1:
        who = f"A front of {n} merges. {'The one at its knee' if n > 2 else 'The one that gives up the less'}"
    return f"{who} {'; it '.join(said)}." if said else "There is nothing to compare the evolved merge with."


def _scores(view: RunResults, part: Mapping[str, Any]) -> str:
    """The test score in one objective, against the sources and the best of each other kind."""
    written = score_format(view)
    best = part["best"]
    said = (
        f"{view.objective}, {counted(part['n'], 'test problem')}: {written.score(best['score'])} "
        f"(95 % interval {written.interval(*best['interval'])})"
    )
    hardest = rivals(view, part)
    names = list(part["sources"])
    if len(names) <= _MOST_SOURCES:
        told = [
            compared(name, part["sources"][name]["score"], part["paired"][name], written)
            for name in sorted(names, key=lambda name: -part["sources"][name]["score"])
        ]
        hardest = [rival for rival in hardest if rival.what != "the best source"]
    else:
        told = []
    told += [compared(rival.shown, rival.score, part["paired"][rival.name], written) for rival in hardest]
    return f"{said}; {'; '.join(told)}." if told else f"{said}."
