"""The numbers of a run, as ``summary.json`` keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evo_merge.evaluation.cost import NOTHING
from evo_merge.objectives import has_chance
from evo_merge.recipe import to_record
from evo_merge.report.archive import together
from evo_merge.report.constraints import to_record as constraints_to_record
from evo_merge.report.results import Model, RunResults, mean_score, scores, search_score
from evo_merge.report.searched import SearchedCandidate
from evo_merge.report.views import views
from evo_merge.statistics.correction import holm
from evo_merge.statistics.intervals import interval
from evo_merge.statistics.paired import paired_interval, paired_test

_RIVALS = ("source", "unoptimised", "baseline", "stage", "ablation")  # in the order of the paired tests


def summarise(results: RunResults) -> dict[str, Any]:
    """The content of ``summary.json``: plain values that JSON can hold, only what is known so far.

    ``test.unoptimised`` holds the un-optimised merge of the method and the un-tuned merges by other methods, by name.
    ``test.paired`` has of each other model the mean difference, its 95 % ``interval``, ``p`` as it is and ``p_adjusted``, by
    Holm for all of them and, where a resumed run chose several merges, for their number; ``p_holm`` is its older name.
    Objectives without chance in them have no interval and no p, and do not count.

    ``search.selection`` has the score that the best was chosen by and the same corrected for the choice.

    ``test.stages`` holds the best of each earlier stage of a hybrid, ``test.ablation`` the best without something that was
    evolved.

    Of several objectives these are about the first. ``test.objectives`` has the same of each by its name, and the other members
    of the front; ``p_adjusted`` is then corrected for the comparisons of all objectives. ``search.best`` is the first number
    that the optimizer was told, of which ``fitness`` has the names; ``search.front`` has the members of the Pareto front.
    ``search.archive`` has the size of an archive and what its members reach together.
    """
    summary: dict[str, Any] = {
        "task": results.task,
        "merge": results.merge,
        "optimizer": results.optimizer,
        "seed": results.seed,
        "evaluations": results.evaluations,
        "seconds": round(results.seconds, 3),
        "objective": results.objective,
        "objectives": list(results.objectives),
        "fitness": list(results.fitness_names),
        "constraints": constraints_to_record(results.constraints),
        "finished": results.is_tested,
        "selection": results.selection,
        "choices": results.n_choices,
        "evo_merge_version": results.version,
    }
    if test := _test(results):
        summary["test"] = test
    if results.written is not None:
        summary["written_model"] = dict(zip(("asked", "same_answers"), results.written, strict=True))
    summary["search"] = _search(results)
    cost = sum((c.cost for c in results.candidates if not c.repeated), NOTHING)
    summary["generation"] = {
        "new_tokens": cost.new_tokens,
        "drafted_tokens": cost.n_drafted,
        "accepted_tokens": cost.n_accepted,
        "degenerate_answers": cost.n_degenerate,
    }
    summary["failed_candidates"] = {
        "count": len(results.failed),
        "reasons": sorted({c.failure for c in results.failed if c.failure is not None}),
    }
    return summary


def tested(summary: Mapping[str, Any], objective: str) -> Mapping[str, Any]:
    """The part of ``test`` that is about an objective; empty where nothing was tested."""
    test = summary.get("test", {})
    found: Mapping[str, Any] = test.get("objectives", {}).get(objective, test)
    return found


def _test(results: RunResults) -> dict[str, Any]:
    by_objective = {view.objective: _of_objective(view) for view in views(results)}
    _compare(results, by_objective)
    test = dict(by_objective[results.objective])
    if results.best is not None and "best" in test:
        test["best"] = test["best"] | {"recipe": to_record(results.best.recipe)}
    failures = {m.name: m.test.failure for m in results.models if m.test is not None and m.test.failure is not None}
    if failures:
        test["failures"] = failures
    if len(by_objective) > 1:
        others = {name: _scored(results.of_role("front"), name) for name in by_objective}
        test["objectives"] = {name: found | {"front": others[name]} for name, found in by_objective.items()}
    known = test["sources"] or test["unoptimised"] or "best" in test or failures
    return test if known else {}


def _of_objective(view: RunResults) -> dict[str, Any]:
    """Everyone's test scores in one objective, of a run as that objective sees it."""
    found: dict[str, Any] = {
        "n": len(view.test_examples),
        "sources": _scored(view.of_role("source"), view.objective),
        "unoptimised": _scored((*view.of_role("unoptimised"), *view.of_role("baseline")), view.objective),
    }
    later = {"stages": view.of_role("stage"), "ablation": view.of_role("ablation")}
    found |= {key: _scored(models, view.objective) for key, models in later.items() if models}
    column = None if view.best is None else scores(view.best.test, view.objective)
    return found if column is None else found | {"best": _score(column, view.objective)}


def _compare(results: RunResults, by_objective: Mapping[str, dict[str, Any]]) -> None:
    """Add the comparisons of the best with all others, their p corrected for those of all objectives together."""
    by_view = {view.objective: _paired(view) for view in views(results)}
    p_values = {(of, name): pair["p"] for of, pairs in by_view.items() for name, pair in pairs.items() if pair["p"] is not None}
    looks = max(1, results.n_choices)  # each choice was asked the test split, and the last need not be the first that pleased
    corrected = dict(zip(p_values, holm(list(p_values.values()), looks), strict=True))
    for objective, found in by_objective.items():
        if "best" in found:
            found["paired"] = {
                name: pair | dict.fromkeys(("p_adjusted", "p_holm"), corrected.get((objective, name)))
                for name, pair in by_view[objective].items()
            }


def _paired(view: RunResults) -> dict[str, dict[str, Any]]:
    """By model the mean difference to the best, its interval, and p; the latter ``None`` where there is no chance in them."""
    best = None if view.best is None else scores(view.best.test, view.objective)
    if best is None:
        return {}
    others = [model for role in _RIVALS for model in view.of_role(role)]
    columns = {model.name: scores(model.test, view.objective) for model in others}
    known = {name: column for name, column in columns.items() if column is not None}
    if not has_chance(view.objective):
        return {name: {"difference": float((best - c).mean()), "interval": None, "p": None} for name, c in known.items()}
    paired = {}
    for name, column in known.items():
        test, bounds = paired_test(best, column), paired_interval(best, column)
        paired[name] = {"difference": test.difference, "interval": [bounds.low, bounds.high], "p": test.p}
    return paired


def _search(results: RunResults) -> dict[str, Any]:
    chosen = results.best_candidate
    search: dict[str, Any] = {
        "n": results.n_search,
        "best": None if chosen is None else chosen.score,
        "best_number": results.best_number,
        "generations": results.n_generations,
        "candidates": len(results.candidates),
    }
    search["answers"] = sum(c.n_asked for c in results.candidates if not c.repeated)
    if results.stopped:
        search["stopped"] = {"count": len(results.stopped), "answers_spared": results.n_spared}
    if results.has_batches:
        search["batches"] = True
    if results.selected is not None:
        search["selection"] = {"split": results.selected.split, **asdict(results.selected.score)}
    if results.stages:
        search["stage"] = results.stage
        search["stages"] = {stage: _of_stage(results, stage) for stage in results.stages}
    for key, role in (("sources", "source"), ("unoptimised", "unoptimised"), ("baselines", "baseline")):
        means = {model.name: search_score(model.search) for model in results.of_role(role)}
        search[key] = {name: value for name, value in means.items() if value is not None}
    if results.constraints:
        search["missed_constraints"] = results.n_missed
    if results.has_front:
        tested = {model.number: model for model in results.of_role("front")} | {results.best_number: results.best}
        search["front"] = [_member(results, candidate, tested.get(candidate.number)) for candidate in results.front]
    if results.hypervolumes is not None:
        search["hypervolume"] = {
            "reference": list(results.hypervolumes.reference),
            "by_generation": list(results.hypervolumes.by_generation),
            "before": results.hypervolumes.before,
        }
    if results.archive is not None:
        search["archive"] = {
            "members": len(results.archive.members),
            "niches": len(results.archive.niches),
            "together": [asdict(row) for row in together(results.archive)],
        }
    return search


def _member(results: RunResults, candidate: SearchedCandidate, model: Model | None) -> dict[str, Any]:
    member: dict[str, Any] = {
        "number": candidate.number,
        "fitness": dict(zip(results.fitness_names, candidate.fitness, strict=True)),
    }
    means = {name: mean_score(None if model is None else model.test, name) for name in results.objectives}
    if any(mean is not None for mean in means.values()):
        member["test"] = means
    return member


def _of_stage(results: RunResults, stage: str) -> dict[str, int]:
    members = [c for c in results.candidates if c.stage == stage]
    return {"generations": len({c.generation for c in members}), "candidates": len(members)}


def _scored(models: Sequence[Model], objective: str) -> dict[str, Any]:
    columns = {model.name: scores(model.test, objective) for model in models}
    return {name: _score(column, objective) for name, column in columns.items() if column is not None}


def _score(column: NDArray[np.float64], objective: str) -> dict[str, Any]:
    bounds = interval(column) if has_chance(objective) else None
    return {"score": float(column.mean()), "interval": None if bounds is None else [bounds.low, bounds.high]}
