"""The result of a run with several objectives in plain sentences: each by itself, since no average would mean anything."""

from collections.abc import Mapping
from typing import Any

from evo_merge.objectives import has_chance
from evo_merge.report.constraint_wording import constraint_points
from evo_merge.report.narrative import (
    Narrative,
    compared,
    corrected_for,
    interval_clause,
    rivals,
    short_name,
    unfinished,
    verdicts,
    what_was_done,
)
from evo_merge.report.results import RunResults
from evo_merge.report.summary import tested
from evo_merge.report.views import views
from evo_merge.report.wording import counted, formula, is_clear, listing, score_format, search_format

_CALLED = {
    "source": "the source",
    "unoptimised": "the un-optimised merge",
    "baseline": "the un-tuned merge",
    "stage": "the best of stage",
}  # in front of a model's name
_MOST_SOURCES = 4  # that are compared one by one; of more only the best


def narrate_several(results: RunResults, summary: Mapping[str, Any]) -> Narrative:
    """Put the content of ``summary.json`` into words."""
    said = [what_was_done(results), _aim(results)]
    points = constraint_points(results)
    if not results.is_tested:
        said.append(_so_far(results))
        return Narrative("No final result yet.", " ".join(said), unfinished(results), points)
    said += [_found(results), *_against(results, summary)]
    if results.n_choices > 1:
        said.append(
            f"The run was resumed and chose {results.n_choices} different merges, each scored on the test split, which is "
            "therefore no longer untouched."
        )
    pairs = (pair for name in results.objectives for pair in tested(summary, name)["paired"].values())
    of = " of all objectives" if all(map(has_chance, results.objectives)) else " of the objectives with chance in them"
    said += filter(None, [corrected_for(results, sum(pair["p"] is not None for pair in pairs), of)])
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
    knee = f"The chosen one, candidate {results.best_number}, is the knee"
    if n == 2:
        knee = f"The chosen one, candidate {results.best_number}, gives up the less: with each objective scaled over all "
        knee += "candidates, its sum is the greater."
    elif len(results.objectives) == 2:
        knee += ", furthest from the line through its ends."
    else:
        knee += ": with each objective scaled from 0 to 1 over the front, its sum is the greatest."
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
    if results.none_keeps:
        return f"The nearest candidate scores {told} on the problems of the search split that it was asked."
    n, who = len(results.front), f"The best so far, candidate {leader.number},"
    if results.has_front:
        which = "its knee" if n > 2 else "the one that gives up the less"
        who = f"The front so far has {n} members; {which}, candidate {leader.number},"
        who = who if n > 1 else f"The front so far has one member, candidate {leader.number}, which"
    return (
        f"{who} scores {told} on the problems of the search split that it was asked; chosen as the best of many, it will "
        "probably score less on problems that it was not chosen by."
    )


def _verdict(results: RunResults, summary: Mapping[str, Any]) -> str:
    """How the chosen merge stands to the best source, objective by objective, and who is nowhere below it."""
    told: dict[str, list[str]] = {}  # objectives by what is to be said of them
    for view in views(results):
        part = tested(summary, view.objective)
        for clause in verdicts(rivals(view, part)[:1], part["paired"]):
            told.setdefault(clause, []).append(view.objective)
    if not told:
        return "There is nothing to compare the evolved merge with."
    n = len(results.front)
    lead = f"A front of {n} merges. " if results.has_front and n > 1 else ""
    who = _called(results)
    said = listing([f"{clause} in {listing(names)}" for clause, names in told.items()])
    better = [name for name, _ in _dominating(results, summary)]
    return f"{lead}{who[0].upper()}{who[1:]} {said}.{f' Nowhere below it: {listing(better)}.' if better else ''}"


def _called(results: RunResults) -> str:
    """What a sentence calls the chosen merge."""
    n = len(results.front) if results.has_front else 1
    return "the evolved merge" if n < 2 else "the one at its knee" if n > 2 else "the one that gives up the less"


def _against(results: RunResults, summary: Mapping[str, Any]) -> list[str]:
    """How the chosen merge stands to the best of each kind, and how clearly others are above it."""
    told: dict[str, list[str]] = {}
    for view in views(results):
        part = tested(summary, view.objective)
        if clauses := listing(verdicts(rivals(view, part), part["paired"])):
            told.setdefault(clauses, []).append(view.objective)
    said = [f"In {listing(names)} it {clauses}" for clauses, names in told.items()]
    better = [f"{name} ({above})" for name, above in _dominating(results, summary)]
    return [f"{sentence}." for sentence in said + ([f"Nowhere below it on the test split: {listing(better)}"] * bool(better))]


def _dominating(results: RunResults, summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Models beside the search, nowhere below the chosen one on the test split and somewhere above, clear ones first.

    Each with where it is above, and whether clearly.
    """
    paired = {name: tested(summary, name)["paired"] for name in results.objectives}
    clear_ones: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    for model in results.models:
        pairs = {name: found[model.name] for name, found in paired.items() if model.name in found}
        above = [name for name, pair in pairs.items() if pair["difference"] < 0]
        is_rival = model.role in _CALLED and model.recipe != results.recipe
        if not is_rival or not above or len(pairs) < len(paired) or any(pair["difference"] > 0 for pair in pairs.values()):
            continue
        clear = [name for name in above if is_clear(pairs[name])]
        where = "every objective" if len(above) == len(pairs) else listing(above)
        surely = f"clearly in {listing(clear)}" if clear else "which chance alone could explain"
        named = f"{_CALLED[model.role]} {short_name(model)}"
        (clear_ones if clear else others).append((named, f"above it in {where}, {surely}"))
    return [*clear_ones, *others]


def _scores(view: RunResults, part: Mapping[str, Any]) -> str:
    """The test score in one objective, against the sources and the best of each other kind."""
    written = score_format(view)
    best = part["best"]
    said = (
        f"{view.objective}, {counted(part['n'], 'test problem')}: {written.score(best['score'])}"
        f"{interval_clause(best, written)}"
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
