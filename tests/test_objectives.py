"""What a run wants: names made sense of, columns, constraints, and several objectives made one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from evo_merge.aimed import Aimed
from evo_merge.baselines import single_model
from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.objectives import Aim, aim_of
from evo_merge.recipe import DataFlowRecipe, ModelReference, ParameterRule, ParameterSpaceRecipe, Recipe, Source, Step
from evo_merge.scalarize import Chebyshev, Scalarization, WeightedSum
from evo_merge.tasks.base import Portion

NAN = float("nan")
METRICS = ("ja/accuracy", "en/accuracy")
ALL = Portion("search")


def mixture(weight: Sequence[float] = (0.5, 0.5), density: Sequence[float] | None = None) -> ParameterSpaceRecipe:
    values: dict[str, Any] = {"weight": tuple(weight)} | ({} if density is None else {"density": tuple(density)})
    return ParameterSpaceRecipe(
        base=ModelReference("base"),
        sources=tuple(Source(f"s{i}", ModelReference(f"m{i}")) for i in range(len(weight))),
        method="task_arithmetic" if density is None else "dare_ties",
        options={},
        parameters=(ParameterRule(("*",), values),),
        seed=0,
        dtype="float32",
        out_dtype="float32",
    )


SOURCES: Mapping[str, Recipe] = {name: single_model(ModelReference(name), "float32", name) for name in ("ja", "math")}
PATH = DataFlowRecipe((Source("a", ModelReference("a")),), (Step("a", 0, 1.0),), "residual", "float32")


def evaluation(ja: Sequence[float], en: Sequence[float], texts: Sequence[str] | None = None) -> Evaluation:
    rows = [[value, NAN] for value in ja] + [[NAN, value] for value in en]
    return Evaluation(METRICS, 2, np.array(rows), tuple(texts or ["はい、そうです。"] * len(rows)))


def aim(
    objectives: Sequence[str] | None = None,
    constraints: Mapping[str, Any] | None = None,
    scalarization: Scalarization | None = None,
    start: Recipe | None = None,
) -> Aim:
    return aim_of(
        METRICS, METRICS, objectives, constraints or {}, scalarization, [*SOURCES], 2, [mixture(), start or mixture()]
    )


class Answers:
    """An evaluator that knows what every recipe scores, and counts how often it is asked."""

    def __init__(self, *found: tuple[Recipe, Evaluation]) -> None:
        self.found, self.asked = found, 0

    def evaluate(self, recipe: Recipe, portion: Portion) -> Evaluation:
        self.asked += 1
        return next(each for known, each in self.found if known == recipe)


def judged(wanted: Aim, found: Evaluation, recipe: Recipe | None = None, **sources: Evaluation) -> Evaluation:
    answers = Answers((recipe or mixture(), found), *((SOURCES[name], each) for name, each in sources.items()))
    return Aimed(answers, wanted, SOURCES, lambda recipe, portion: None).evaluate(recipe or mixture(), ALL)


def test_without_names_the_tasks_own_objectives_are_wanted_and_the_evaluation_stays_what_it_is() -> None:
    found = evaluation([1, 0], [1, 1, 0])
    same = judged(aim(), found)
    assert same.metrics == METRICS
    np.testing.assert_array_equal(same.scores, found.scores)
    assert same.fitness.tolist() == [0.5, pytest.approx(2 / 3)]
    assert same.violation == 0


def test_wanted_metrics_come_first_and_the_others_stay() -> None:
    found = judged(aim(["en/accuracy"]), evaluation([1, 0], [1, 1]))
    assert found.metrics == ("en/accuracy", "ja/accuracy")
    assert found.fitness.tolist() == [1.0]
    assert found.means == {"en/accuracy": 1.0, "ja/accuracy": 0.5}


def test_brevity_is_minus_the_characters() -> None:
    found = judged(aim(["ja/accuracy", "brevity"]), evaluation([1], [0], ["ab", "abcd"]))
    assert found.column("brevity").tolist() == [-2.0, -4.0]
    assert found.fitness.tolist() == [1.0, -3.0]


def test_the_share_of_answers_in_a_language_can_be_wanted() -> None:
    texts = ["答えは三個です。とてもおいしいりんごでした。", "There are three apples on the table, and they taste good."]
    found = judged(aim(["in_language/ja", "in_language/en"]), evaluation([1], [0], texts))
    assert found.column("in_language/ja").tolist() == [1.0, 0.0]
    assert found.column("in_language/en").tolist() == [0.0, 1.0]


def test_what_a_source_has_can_be_kept() -> None:
    found = judged(aim(["kept/math/en/accuracy"]), evaluation([1], [1, 0, 0]), math=evaluation([0], [1, 1, 0]))
    # Lost on the second of the three English problems; the Japanese one is none of this metric's.
    assert found.column("kept/math/en/accuracy").tolist() == [1.0, 0.0, 1.0]


def test_a_source_has_kept_all_that_it_has() -> None:
    found = judged(aim(["kept/math/en/accuracy"]), evaluation([0], [1, 1, 0]), recipe=SOURCES["math"])
    assert found.fitness.tolist() == [1.0]


def test_a_source_that_is_compared_with_is_asked_once_and_not_at_all_where_the_study_knows_it() -> None:
    source = evaluation([0], [1])
    table = Answers((mixture(), evaluation([1], [1])), (SOURCES["math"], source))
    wanted = aim(["kept/math/en/accuracy"])
    alone = Aimed(table, wanted, SOURCES, lambda recipe, portion: None)
    alone.evaluate(mixture(), ALL)
    alone.evaluate(mixture(), ALL)
    assert table.asked == 3
    remembering = Aimed(table, wanted, SOURCES, lambda recipe, portion: source)
    remembering.evaluate(mixture(), ALL)
    assert table.asked == 4


def test_sparsity_is_the_share_of_changes_that_is_left_out() -> None:
    two = evaluation([1], [1])
    assert judged(aim(["sparsity"]), two, mixture((0.5, 0.5), (0.25, 0.75))).fitness.tolist() == [0.5]
    assert judged(aim(["sparsity"]), two, mixture((0.5, 0.0), (0.25, 0.75))).fitness.tolist() == [pytest.approx(1 - 0.25 / 2)]
    assert judged(aim(["sparsity"]), two, mixture((0.5,), (1.0,))).fitness.tolist() == [0.5]  # one of two sources


def test_few_sources_counts_those_with_a_weight() -> None:
    assert judged(aim(["few_sources"]), evaluation([1], [1]), mixture((0.5, 0.0, 0.1))).fitness.tolist() == [-2.0]


@pytest.mark.parametrize("name", ["sparsity", "few_sources"])
def test_numbers_of_mixtures_are_refused_for_paths(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is a number of mixed weights, and there are recipes that are paths"):
        aim([name], start=PATH)


@pytest.mark.parametrize(
    ("objectives", "said"),
    [
        (["acuracy"], r"objectives: there is no 'acuracy'; the task has ja/accuracy, en/accuracy, and any task has brevity"),
        (["in_language/xx"], "'in_language/xx' must name a language by its code, such as in_language/ja"),
        (["kept/nobody/en/accuracy"], "must be kept/<source>/<metric>, with a source of ja, math and a metric of ja/accuracy"),
        (["kept/math/speed"], "must be kept/<source>/<metric>, with a source of ja, math"),
        (["brevity", "brevity"], "names 'brevity' twice"),
        ([], "objectives is empty"),
    ],
)
def test_names_that_there_are_not_are_one_sentence(objectives: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        aim(objectives)


def test_a_constraint_is_missed_by_the_share_of_the_bound_that_the_mean_is_below_it() -> None:
    wanted = aim(["ja/accuracy"], {"en/accuracy": 0.75})
    assert judged(wanted, evaluation([1], [1, 1, 1, 0])).violation == 0
    assert judged(wanted, evaluation([1], [1, 0, 0, 0])).violation == pytest.approx(0.5 / 0.75)


def test_a_constraint_may_be_what_a_source_scores_and_several_add_up() -> None:
    wanted = aim(["ja/accuracy"], {"en/accuracy": "math", "brevity": -3, "sparsity": 0})
    found = judged(wanted, evaluation([1], [1, 0], ["abcd"] * 3), math=evaluation([0], [1, 1]))
    assert found.violation == pytest.approx(0.5 / 1 + 1 / 3)
    assert "brevity" in found.means


@pytest.mark.parametrize(("name", "missed"), [("brevity", 2 / 2), ("in_language/ja", 1 / 1), ("few_sources", 1 / 1)])
def test_a_source_bounds_numbers_that_the_task_has_not(name: str, missed: float) -> None:
    wanted = aim(["ja/accuracy"], {name: "math"})
    source = evaluation([1], [1], ["はい"] * 2)
    found = judged(wanted, evaluation([1], [1], ["abcd"] * 2), math=source)
    assert found.violation == pytest.approx(missed)
    assert judged(wanted, source, recipe=SOURCES["math"]).violation == 0


def test_two_sources_may_be_compared_with_each_other() -> None:
    wanted = aim(["kept/math/en/accuracy", "kept/ja/ja/accuracy"], {"brevity": "math"})
    sources = {"ja": evaluation([1], [0]), "math": evaluation([0], [1])}
    answers = Answers(*((SOURCES[name], found) for name, found in sources.items()))
    evaluator = Aimed(answers, wanted, SOURCES, lambda recipe, portion: None)
    assert [evaluator.evaluate(SOURCES[name], ALL).fitness.tolist() for name in ("ja", "math")] == [[0.0, 1.0], [1.0, 0.0]]
    assert answers.asked == 2


def test_an_objective_that_no_problem_is_one_of_is_a_failure() -> None:
    found = judged(aim(), evaluation([1], []))
    assert found.failure == "no problem that was asked is one of 'en/accuracy'"
    assert found.fitness.tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        ({"acc": 0.5}, "constraints: there is no 'acc'"),
        (
            {"en/accuracy": "mat"},
            r"'en/accuracy' must be at least a number or a source's score, got 'mat'; did you mean 'math'\?",
        ),
        ({"en/accuracy": None}, "got None"),
        ({"en/accuracy": float("nan")}, "got nan"),
        ({"kept/math/en/accuracy": "math"}, "compares with a source already; give a number"),
    ],
)
def test_bounds_that_cannot_be_are_one_sentence(constraints: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        aim(None, constraints)


def test_a_failed_candidate_stays_failed() -> None:
    lost = failed(METRICS, 2, "weights are not finite")
    assert judged(aim(), lost).fitness.tolist() == [-np.inf, -np.inf]
    one = judged(aim(None, {"brevity": -3}, WeightedSum(weights=None)), lost)
    assert one.fitness.tolist() == [-np.inf]
    assert one.failure == "weights are not finite"


def test_a_weighted_sum_is_one_number_and_the_objectives_stay() -> None:
    found = judged(aim(None, None, WeightedSum(weights={"ja/accuracy": 2, "en/accuracy": 1})), evaluation([1], [1, 0]))
    assert found.fitness.tolist() == [2.5]
    assert found.objectives.tolist() == [1.0, 0.5]
    mean = aim(None, None, WeightedSum(weights=None))
    assert judged(mean, evaluation([1], [1, 0])).fitness.tolist() == [0.75]
    in_order = aim(None, None, WeightedSum(weights=[2, 1]))
    assert judged(in_order, evaluation([1], [1, 0])).fitness.tolist() == [2.5]
    assert mean.fitness_names == ("weighted_sum",)
    assert aim().fitness_names == METRICS


def test_chebyshev_counts_what_is_furthest_behind() -> None:
    wanted = aim(None, None, Chebyshev(weights={"ja/accuracy": 1, "en/accuracy": 3}, ideal=1.0))
    assert judged(wanted, evaluation([0, 1], [1, 0, 1, 1])).fitness.tolist() == [-0.75]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"ja/accuracy": 1}, "scalarize.weights has none for 'en/accuracy'"),
        ({"ja/accuracy": 1, "en/acuracy": 1}, r"there is no objective 'en/acuracy'; did you mean 'en/accuracy'\?"),
        ([1, 2, 3], "scalarize.weights has 3 numbers for 2 objectives, ja/accuracy, en/accuracy"),
        ([1, -2], "'en/accuracy' must have a number of at least 0, got -2"),
        ({"ja/accuracy": -1, "en/accuracy": 1}, "'ja/accuracy' must have a number of at least 0, got -1"),
    ],
)
def test_weights_that_do_not_fit_are_one_sentence(weights: Mapping[str, float] | list[float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        aim(None, None, WeightedSum(weights=weights))


def test_one_objective_is_one_number_already() -> None:
    with pytest.raises(ConfigError, match=r"scalarize makes one number of several objectives, and there is one \(brevity\)"):
        aim(["brevity"], None, WeightedSum(weights=None))


def test_a_source_that_failed_cannot_be_compared_with() -> None:
    with pytest.raises(ConfigError, match="cannot compare with 'math', which failed: out of memory"):
        judged(aim(["kept/math/en/accuracy"]), evaluation([1], [1]), math=failed(METRICS, 2, "out of memory"))
