"""The result in plain sentences, for one who reads nothing else; says it as plainly where the search gained nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evo_merge.report.results import RunResults
from evo_merge.report.wording import ScoreFormat, counted, duration, listing, p_clause, score_format

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Narrative:
    """What the run found.

    Attributes:
        verdict: One sentence.
        result: One paragraph of sentences.
        warning: What is missing from the run; empty where it is complete.
    """

    verdict: str
    result: str
    warning: str


def narrate(results: RunResults, summary: Mapping[str, Any]) -> Narrative:
    """Put the content of ``summary.json`` into words."""
    written = score_format(results)
    if not results.is_tested:
        return Narrative("No final result yet.", _progress(results, summary, written), _warning(results))
    test = summary["test"]
    best = test["best"]
    said = [
        _what_was_done(results),
        f"On {counted(test['n'], 'test problem')} that the search never saw, the evolved merge scores "
        f"{written.score(best['score'])} (95 % interval {written.interval(*best['interval'])}).",
    ]
    rivals = _rivals(results, test)
    compared = [_comparison(text, name, score, test["paired"][name], written) for text, name, score in rivals]
    if compared:
        said.append(f"That is {'; '.join((*compared[:-1], f'and {compared[-1]}' if compared[1:] else compared[0]))}.")
    if results.n_choices > 1:
        said.append(
            f"The run was resumed and chose {results.n_choices} different merges, each scored on the test split, which is "
            "therefore no longer untouched."
        )
    if len(test["paired"]) > 1:
        said.append(f"(Values of p are corrected for {len(test['paired'])} comparisons.)")
    return Narrative(_verdict(rivals, test["paired"]), " ".join(said), "")


def _rivals(results: RunResults, test: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """The best of each kind by its test score, the hardest choice for the evolved merge: (what, name, score)."""
    found = []
    kinds = (
        ("the best source", "source", "sources"),
        ("the un-optimised merge", "unoptimised", "unoptimised"),
        ("the best un-tuned merge by another method", "baseline", "unoptimised"),
    )
    for text, role, key in kinds:
        known = [(test[key][m.name]["score"], m.name) for m in results.of_role(role) if m.name in test[key]]
        if known:
            score, name = max(known, key=lambda pair: pair[0])
            found.append((text, name, score))
    return found


def _what_was_done(results: RunResults) -> str:
    sources = [model.name for model in results.of_role("source")]
    merged = counted(len(sources), "model")
    who = f"{merged} ({listing(sources)})" if sources else "The sources"
    seed = "" if results.seed is None else f", seed {results.seed}"
    verb = "was" if len(sources) == 1 else "were"
    return (
        f"{who} {verb} merged by {results.merge}; {results.optimizer} tried "
        f"{counted(results.evaluations, 'candidate')} in {duration(results.seconds)}{seed}, scored on {results.task}."
    )


def _comparison(text: str, name: str, score: float, paired: Mapping[str, float], written: ScoreFormat) -> str:
    difference, p = paired["difference"], paired["p_holm"]
    rival = f"{text}, {name} ({written.score(score)}"
    if difference == 0:
        return f"the same as {rival})"
    side = "above" if difference > 0 else "below"
    sentence = f"{written.distance(difference)} {side} {rival}, {p_clause(p)})"
    return sentence if p < SIGNIFICANT else f"{sentence}, which chance alone could explain"


def _verdict(rivals: list[tuple[str, str, float]], paired: Mapping[str, Mapping[str, float]]) -> str:
    """Says of every rival whether the evolved merge is above it, below it, or not clearly either."""
    clauses: dict[str, list[str]] = {"beats": [], "does not clearly differ from": [], "is worse than": []}
    for text, name, _ in rivals:
        test = paired[name]
        clear = "beats" if test["difference"] > 0 else "is worse than"
        clauses[clear if test["p_holm"] < SIGNIFICANT else "does not clearly differ from"].append(text)
    said = [f"{verb} {listing(texts)}" for verb, texts in clauses.items() if texts]
    return f"The evolved merge {'; it '.join(said)}." if said else "There is nothing to compare the evolved merge with."


def _progress(results: RunResults, summary: Mapping[str, Any], written: ScoreFormat) -> str:
    said = [_what_was_done(results)]
    best = summary["search"]["best"]
    if best is not None:
        said.append(
            f"The best candidate so far, number {results.best_number}, scores {written.score(best)} on the "
            f"{counted(results.n_search, 'problem')} of the search split; chosen as the best of many, it will "
            "probably score less on problems that it was not chosen by."
        )
    return " ".join(said)


def _warning(results: RunResults) -> str:
    waiting = sum(c.score is None and c.failure is None for c in results.candidates)
    if results.best is None:
        said = "This run is not finished: no merge has been chosen yet"
        said += f", and {counted(waiting, 'proposed candidate is', 'proposed candidates are')} not scored" if waiting else ""
        return f"{said}. Everything below is from what is there."
    failure = None if results.best.test is None else results.best.test.failure
    if failure is not None:
        return f"The chosen merge could not be scored on the test split: {failure}"
    return (
        "This run has chosen a merge but has no test score of it: it was stopped before its end, or its task has no "
        "test split. Every score of the search split below flatters the merge."
    )
