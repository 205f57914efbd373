"""The numbers of a run, as ``summary.json`` keeps them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evo_merge.recipe import to_record
from evo_merge.report.results import Model, RunResults, mean_score, scores
from evo_merge.report.statistics import holm, interval, paired_test


def summarise(results: RunResults) -> dict[str, Any]:
    """The content of ``summary.json``: plain values that JSON can hold, only what is known so far.

    ``test.unoptimised`` holds the un-optimised merge of the method and the un-tuned merges by other methods, by name.
    ``test.stages`` holds the best of each earlier stage of a hybrid, ``test.ablation`` the best without something that was
    evolved. ``test.paired`` compares the best merge with every other; ``p_holm`` is corrected for all of them.
    """
    summary: dict[str, Any] = {
        "task": results.task,
        "merge": results.merge,
        "optimizer": results.optimizer,
        "seed": results.seed,
        "evaluations": results.evaluations,
        "seconds": round(results.seconds, 3),
        "objective": results.objective,
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
    summary["failed_candidates"] = {
        "count": len(results.failed),
        "reasons": sorted({c.failure for c in results.failed if c.failure is not None}),
    }
    return summary


def _test(results: RunResults) -> dict[str, Any]:
    objective = results.objective
    unoptimised = (*results.of_role("unoptimised"), *results.of_role("baseline"))
    tested: dict[str, Any] = {
        "n": len(results.test_examples),
        "sources": _scored(results.of_role("source"), objective),
        "unoptimised": _scored(unoptimised, objective),
    }
    later = {"stages": results.of_role("stage"), "ablation": results.of_role("ablation")}
    tested |= {key: _scored(models, objective) for key, models in later.items() if models}
    best = results.best
    best_scores = None if best is None else scores(best.test, objective)
    if best is not None and best_scores is not None:
        tested["best"] = _score(best_scores) | {"recipe": to_record(best.recipe)}
        others = (*results.of_role("source"), *unoptimised, *later["stages"], *later["ablation"])
        tested["paired"] = _paired(best_scores, others, objective)
    failures = {m.name: m.test.failure for m in results.models if m.test is not None and m.test.failure is not None}
    if failures:
        tested["failures"] = failures
    known = tested["sources"] or tested["unoptimised"] or "best" in tested or failures
    return tested if known else {}


def _search(results: RunResults) -> dict[str, Any]:
    chosen = results.best_candidate
    search: dict[str, Any] = {
        "n": results.n_search,
        "best": None if chosen is None else chosen.score,
        "best_number": results.best_number,
        "generations": results.n_generations,
        "candidates": len(results.candidates),
    }
    if results.has_batches:
        search["batches"] = True
    if results.stages:
        search["stage"] = results.stage
        search["stages"] = {stage: _of_stage(results, stage) for stage in results.stages}
    for key, role in (("sources", "source"), ("unoptimised", "unoptimised"), ("baselines", "baseline")):
        means = {model.name: mean_score(model.search, results.objective) for model in results.of_role(role)}
        search[key] = {name: value for name, value in means.items() if value is not None}
    return search


def _of_stage(results: RunResults, stage: str) -> dict[str, int]:
    members = [c for c in results.candidates if c.stage == stage]
    return {"generations": len({c.generation for c in members}), "candidates": len(members)}


def _scored(models: Sequence[Model], objective: str) -> dict[str, Any]:
    columns = {model.name: scores(model.test, objective) for model in models}
    return {name: _score(column) for name, column in columns.items() if column is not None}


def _score(column: NDArray[np.float64]) -> dict[str, Any]:
    bounds = interval(column)
    return {"score": float(column.mean()), "interval": [bounds.low, bounds.high]}


def _paired(best: NDArray[np.float64], others: Sequence[Model], objective: str) -> dict[str, Any]:
    columns = {model.name: scores(model.test, objective) for model in others}
    tests = {name: paired_test(best, column) for name, column in columns.items() if column is not None}
    corrected = holm([test.p for test in tests.values()])
    return {
        name: {"difference": test.difference, "p": test.p, "p_holm": p_holm}
        for (name, test), p_holm in zip(tests.items(), corrected, strict=True)
    }
