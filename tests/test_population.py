"""Drafts from the population, out of a real study."""

import numpy as np
import pytest

from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.evaluation.cost import Cost
from evo_merge.population import Neighbours
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Portion


def recipe(seed):
    sources = (Source("a", ModelReference(model="a")),)
    return ParameterSpaceRecipe(None, sources, "linear", {}, (ParameterRule(("*",), {}),), seed, "float32", "float32")


def answered(texts, positions=None):
    return Evaluation(("m",), 1, np.zeros((len(texts), 1)), tuple(texts), positions=positions)


@pytest.fixture
def study(tmp_path):
    with opened(Study.create(tmp_path)) as study:
        yield study


def propose(study, genomes, stage="", generation=0, first=0):
    recipes = [recipe(first + i) for i in range(len(genomes))]
    study.record_generation(stage, generation, Portion("search"), [np.asarray(g, dtype=np.float64) for g in genomes], recipes)
    return recipes


def test_the_nearest_earlier_candidate_comes_first(study):
    recipes = propose(study, [(0.0, 0.0), (1.0, 1.0), (0.9, 0.8), (0.2, 0.1)])
    for each, text in zip(recipes[:3], ("far", "near", "nearer"), strict=True):
        study.record_evaluation(each, Portion("search"), answered([text, f"{text} 2"]))
    neighbours = Neighbours(study)

    assert neighbours.of(recipes[3], Portion("search"), 2)[0] == ("far", "nearer", "near")  # it lies at (0.2, 0.1)
    assert neighbours.of(recipes[2], Portion("search"), 2) == [("near", "far"), ("near 2", "far 2")]
    assert neighbours.of(recipes[0], Portion("search"), 2) == [(), ()]


def test_candidates_with_larger_numbers_are_not_asked(study):
    recipes = propose(study, [(0.0,), (0.1,), (0.2,)])
    study.record_evaluation(recipes[2], Portion("search"), answered(["later"]))

    assert Neighbours(study).of(recipes[1], Portion("search"), 1) == [()]


def test_genes_count_in_units_of_their_spread(study):
    recipes = propose(study, [(0.0, 0.0), (100.0, 0.0), (0.0, 1.0), (10.0, 0.9)])
    for each, text in zip(recipes[:3], "abc", strict=True):
        study.record_evaluation(each, Portion("search"), answered([text]))

    assert Neighbours(study).of(recipes[3], Portion("search"), 1)[0][0] == "c"


def test_answers_are_found_by_problem_whatever_portion_they_were_asked_in(study):
    recipes = propose(study, [(0.0,), (0.3,), (0.4,)])
    study.record_evaluation(recipes[0], Portion("search"), answered(["a0", "a1", "a2"]))
    study.record_evaluation(recipes[1], Portion("search", (1,)), answered(["b1"], (1,)))
    study.record_evaluation(recipes[1], Portion("test"), answered(["other split"]))

    assert Neighbours(study).of(recipes[2], Portion("search", (1, 2)), 2) == [("b1", "a1"), ("a2",)]


def test_other_stages_failures_and_recipes_without_a_candidate_give_nothing(study):
    others = propose(study, [(0.0,)], stage="other")
    study.record_evaluation(others[0], Portion("search"), answered(["of another stage"]))
    recipes = propose(study, [(0.0,), (0.1,)], first=10)
    study.record_evaluation(recipes[0], Portion("search"), failed(("m",), 1, "broken"))

    assert Neighbours(study).of(recipes[1], Portion("search"), 1) == [()]
    assert Neighbours(study).of(recipe(99), Portion("search"), 1) == [()]


def test_the_same_answer_is_one_draft(study):
    recipes = propose(study, [(0.0,), (0.1,), (0.2,)])
    for each in recipes[:2]:
        study.record_evaluation(each, Portion("search"), answered(["same"]))

    assert Neighbours(study).of(recipes[2], Portion("search"), 1) == [("same",)]


def test_what_answering_took_is_kept_and_older_runs_have_none(study, tmp_path):
    counted = Evaluation(
        ("m",), 1, np.zeros((1, 1)), ("a",), cost=Cost(new_tokens=9, n_degenerate=1, n_drafted=8, n_accepted=5)
    )
    study.record_evaluation(recipe(0), Portion("search"), counted)

    found = study.evaluation(recipe(0), "search")
    assert (found.cost.n_degenerate, found.cost.n_drafted, found.cost.n_accepted) == (1, 8, 5)

    study._db.execute("DROP TABLE decoding")
    study._db.commit()
    with opened(Study.read(tmp_path)) as older:
        found = older.evaluation(recipe(0), "search")
    assert (found.cost.new_tokens, found.cost.n_degenerate, found.cost.n_drafted, found.cost.n_accepted) == (9, 0, 0, 0)
