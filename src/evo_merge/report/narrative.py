"""The result in plain sentences, for one who reads nothing else; says it as plainly where the search gained nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evo_merge.recipe import DataFlowRecipe, Recipe, Source
from evo_merge.report.constraint_wording import constraint_points, nearest_in_words
from evo_merge.report.results import Model, RunResults, search_score
from evo_merge.report.selected_wording import selected_told
from evo_merge.report.wording import (
    NBSP,
    ScoreFormat,
    counted,
    duration,
    is_clear,
    listing,
    p_clause,
    score_format,
    search_format,
)


@dataclass(frozen=True, slots=True)
class Narrative:
    """What the run found.

    Attributes:
        verdict: One sentence.
        result: One paragraph of sentences.
        warning: What is missing from the run; empty where it is complete.
        points: A sentence each: of several objectives and of constraints.
    """

    verdict: str
    result: str
    warning: str
    points: tuple[str, ...] = ()


def narrate(results: RunResults, summary: Mapping[str, Any]) -> Narrative:
    """Put the content of ``summary.json`` into words."""
    written = score_format(results)
    if not results.is_tested:
        points = constraint_points(results)
        return Narrative("No final result yet.", _progress(results, summary, written), unfinished(results), points)
    test = summary["test"]
    best = test["best"]
    said = [
        what_was_done(results),
        f"On {counted(test['n'], 'test problem')} that the search never saw, the evolved merge scores "
        f"{written.score(best['score'])}{interval_clause(best, written)}.",
    ]
    found = rivals(results, test)
    told = [compared(rival.shown, rival.score, test["paired"][rival.name], written) for rival in found]
    if told:
        said.append(f"That is {'; '.join((*told[:-1], f'and {told[-1]}' if told[1:] else told[0]))}.")
    said += _stages_and_ablation(results, test, written)
    said += filter(None, [selected_told(results, written)])
    if results.n_choices > 1:
        said.append(
            f"The run was resumed and chose {results.n_choices} different merges, each scored on the test split, which is "
            "therefore no longer untouched."
        )
    said += filter(None, [corrected_for(results, sum(pair["p"] is not None for pair in test["paired"].values()))])
    return Narrative(_verdict(found, test["paired"]), " ".join(said), "", constraint_points(results))


@dataclass(frozen=True, slots=True)
class Rival:
    """The best model of a kind: the kind, its name, and how a sentence calls it."""

    what: str
    name: str
    shown: str
    score: float


def rivals(results: RunResults, test: Mapping[str, Any]) -> list[Rival]:
    """The best of each kind by its test score, the hardest choice for the evolved merge."""
    found = []
    several = len(results.of_role("stage")) > 1
    earlier = "the best of its own parameter-space stages" if several else "its own parameter-space stage"
    kinds = (
        ("the best source", "source", "sources"),
        ("the un-optimised merge", "unoptimised", "unoptimised"),
        ("the best un-tuned merge by another method", "baseline", "unoptimised"),
        (earlier, "stage", "stages"),
    )
    for what, role, key in kinds:
        # A stage's result that was itself chosen is no rival.
        models = [m for m in results.of_role(role) if role != "stage" or m.recipe != results.recipe]
        known = [(test[key][m.name]["score"], m) for m in models if m.name in test.get(key, {})]
        if not known:
            continue
        score, model = max(known, key=lambda pair: pair[0])
        if role == "unoptimised" and isinstance(model.recipe, DataFlowRecipe):
            found.append(Rival("all layers stacked", model.name, "all layers stacked, un-optimised", score))
        else:
            found.append(Rival(what, model.name, f"{what}, {short_name(model)}", score))
    return found


def short_name(model: Model) -> str:
    """A model's name without what its kind says already: ``ties`` of ``ties, un-tuned``."""
    return re.sub(", (un-optimised|un-tuned|parameter space alone)$", "", model.name)


def _stages_and_ablation(results: RunResults, test: Mapping[str, Any], written: ScoreFormat) -> list[str]:
    said = []
    if same := [m.name for m in results.of_role("stage") if m.recipe == results.recipe]:
        names = listing([name.removesuffix(", parameter space alone") for name in same])
        said.append(f"No later stage found a better one: the evolved merge is that of its own parameter-space stage, {names}.")
    for name, entry in test.get("ablation", {}).items():
        paired = test["paired"][name]
        difference, p = paired["difference"], paired["p_adjusted"]
        if difference == 0:
            said.append("Setting all its scales to 1 makes no difference to its score.")
            continue
        verb = "costs" if difference > 0 else "gains"
        sentence = f"Setting all its scales to 1 {verb} {written.distance(difference)}"
        chance = "" if is_clear(paired) else ", which chance alone could explain"
        clause = "" if p is None else f", {p_clause(p)}"
        said.append(f"{sentence} (it then scores {written.score(entry['score'])}{clause}){chance}.")
    return said


def first_generation(results: RunResults) -> str:
    """How close the first generation of a search through layers was to the model it began with; empty for other searches."""
    first = [c for c in results.of_stage if c.generation == 0]
    recipes = [c.recipe for c in first if isinstance(c.recipe, DataFlowRecipe)]
    if not recipes:
        return ""
    written = search_format(results)
    # Every path begins with the first layer of model A and ends with its last.
    last = recipes[0].path[-1]
    source = next(s for s in recipes[0].models if s.name == last.model)
    own = [(source.name, layer) for layer in range(last.layer + 1)]
    n_own = sum([(step.model, step.layer) for step in recipe.path] == own for recipe in recipes)
    scored = [c.score for c in first if c.score is not None]
    said = (
        f"The search began at {source.name}, model A: {n_own} of the {counted(len(recipes), 'candidate')} of generation 0 "
        f"({100 * n_own / len(recipes):.0f}{NBSP}%) {'has' if n_own == 1 else 'have'} exactly that model's path"
    )
    if not scored:
        return f"{said}."
    said += f", and on average they all score {written.score(sum(scored) / len(scored))}{_told(results)}"
    score = _score_of(results, source)
    if score is None:
        return f"{said}."
    batch = " on the whole search split" if first[0].is_of_batch else ""
    return f"{said}, where {source.name} itself scores {written.score(score)}{batch}."


def _told(results: RunResults) -> str:
    """What a search score is of, where that could be asked."""
    return f" in {results.fitness_names[0]}" if len(results.objectives) > 1 else ""


def _score_of(results: RunResults, source: Source) -> float | None:
    """Search score of a model of a path: of a source, or of what an earlier stage found."""
    for model in (*results.of_role("source"), *results.of_role("stage")):
        if model.name == source.name or model.recipe == source.reference.recipe:
            return search_score(model.search)
    inner = source.reference.recipe
    return (
        None
        if inner is None
        else next((c.score for c in results.candidates if c.recipe == inner and c.portion == "search"), None)
    )


def what_was_done(results: RunResults) -> str:
    """Sources, method, optimizer, candidates and time."""
    pool = [model.name for model in results.of_role("source")]
    chosen = pool if results.best is None else [name for name in pool if name in _named(results.best.recipe)]
    merged = chosen or pool
    of_pool = f" of {len(pool)}" if len(merged) < len(pool) else ""
    models = f"{len(merged)}{of_pool} models" if of_pool else counted(len(merged), "model")
    who = f"{models} ({listing(merged)})" if merged else "The sources"
    seed = "" if results.seed is None else f", seed {results.seed}"
    verb = "was" if len(merged) == 1 else "were"
    return (
        f"{who} {verb} merged by {results.merge}; {results.optimizer} tried "
        f"{counted(results.evaluations, 'candidate')} in {duration(results.seconds)}{seed}, scored on {results.task}."
    )


def _named(recipe: Recipe) -> set[str]:
    """Names of the models that a recipe takes something of, those in recipes inside it too."""
    sources = recipe.models if isinstance(recipe, DataFlowRecipe) else recipe.sources
    found = {source.name for source in sources}
    for source in sources:
        if source.reference.recipe is not None:
            found |= _named(source.reference.recipe)
    return found


def interval_clause(entry: Mapping[str, Any], written: ScoreFormat) -> str:
    """`` (95 % interval 84.9 to 90.6 %)``; empty where there is none."""
    bounds = written.bounds(entry["interval"])
    return f" (95 % interval {bounds})" if bounds else ""


def corrected_for(results: RunResults, n_compared: int, of: str = "") -> str:
    """What values of p are corrected for; empty where that is nothing."""
    said = []
    if n_compared > 1:
        said.append(f"{'the ' if of else ''}{n_compared} comparisons{of}")
    if n_compared and results.n_choices > 1:
        said.append(f"{results.n_choices} choices")
    return f"(Values of p are corrected for {listing(said)}.)" if said else ""


def compared(name: str, score: float, paired: Mapping[str, Any], written: ScoreFormat) -> str:
    """By how much the evolved merge is above or below another model, and whether chance alone could explain it."""
    difference, p = paired["difference"], paired["p_adjusted"]
    shown = f"{name} ({written.score(score)}"
    if difference == 0:
        return f"the same as {shown})"
    side = "above" if difference > 0 else "below"
    sentence = f"{written.distance(difference)} {side} {shown}{'' if p is None else f', {p_clause(p)}'})"
    return sentence if is_clear(paired) else f"{sentence}, which chance alone could explain"


def _verdict(found: list[Rival], paired: Mapping[str, Mapping[str, Any]]) -> str:
    said = verdicts(found, paired)
    return f"The evolved merge {'; it '.join(said)}." if said else "There is nothing to compare the evolved merge with."


def verdicts(found: list[Rival], paired: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Says of every rival whether the evolved merge is above it, below it, or not clearly either: a clause each way."""
    clauses: dict[str, list[str]] = {"beats": [], "does not clearly differ from": [], "is worse than": []}
    for rival in found:
        test = paired[rival.name]
        clear = "beats" if test["difference"] > 0 else "is worse than"
        clauses[clear if is_clear(test) else "does not clearly differ from"].append(rival.what)
    return [f"{verb} {listing(texts)}" for verb, texts in clauses.items() if texts]


def _progress(results: RunResults, summary: Mapping[str, Any], written: ScoreFormat) -> str:
    said = [what_was_done(results)]
    best = summary["search"]["best"]
    if best is not None and results.none_keeps:
        said.append(f"The nearest candidate scores {written.score(best)} on {_asked(results)}.")
    elif best is not None:
        said.append(
            f"The best candidate so far, number {results.best_number}, scores {written.score(best)} on {_asked(results)}; "
            "chosen as the best of many, it will probably score less on problems that it was not chosen by."
        )
        said += filter(None, [selected_told(results, written)])
    return " ".join(said)


def _asked(results: RunResults) -> str:
    chosen = results.best_candidate
    if chosen is not None and chosen.is_of_batch:
        return f"the {counted(chosen.n_asked, 'problem')} of the search split that its generation was asked"
    return f"the {counted(results.n_search, 'problem')} of the search split"


def unfinished(results: RunResults) -> str:
    """What is missing from a run without a test score."""
    waiting = sum(c.score is None and c.failure is None and not c.is_stopped for c in results.candidates)
    if results.best is None:
        proposed = counted(waiting, "proposed candidate is", "proposed candidates are")
        said = "This run is not finished: no merge has been chosen yet" + (f", and {proposed} not scored" if waiting else "")
        if results.nearest_finalist is not None:
            said = "No finalist keeps to the constraints on the validation split, so no merge has been chosen; the nearest is "
            said += f"candidate {results.nearest_finalist}"
        elif results.none_keeps:
            said = f"No candidate{' so far' if waiting else ''} keeps to the constraints, so no merge has been chosen; the "
            said += f"nearest is {nearest_in_words(results)}" + (f". {proposed} not scored" if waiting else "")
        return f"{said}. Everything below is from what is there."
    failure = None if results.best.test is None else results.best.test.failure
    if failure is not None:
        return f"The chosen merge could not be scored on the test split: {failure}"
    return (
        "This run has chosen a merge but has no test score of it: it was stopped before its end, or its task has no "
        "test split. Every score of the search split below flatters the merge."
    )
