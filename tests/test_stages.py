"""The searches of a hybrid, with real spaces, optimizers and studies; only the evaluator is a formula of the recipe."""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.methods.linear import Linear
from evo_merge.optimizers.cmaes import CMAES
from evo_merge.optimizers.cmaes_restart import CMAESRestart
from evo_merge.optimizers.random import RandomSearch
from evo_merge.pairs import hopeful
from evo_merge.pareto import Front
from evo_merge.program import Conditions, SingleSearch
from evo_merge.ranking import count_evaluated, ranked_candidates
from evo_merge.recipe import DataFlowRecipe, ModelReference, Source, recipe_hash
from evo_merge.recorded import Recorded
from evo_merge.search import Budget, Run
from evo_merge.spaces.base import Ingredients
from evo_merge.spaces.data_flow import DataFlowSpace
from evo_merge.spaces.parameter import ParameterSpace
from evo_merge.spaces.path_encodings import Segments
from evo_merge.spaces.path_scales import NoScales
from evo_merge.stages import Hybrid
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Example, Portion
from evo_merge.trackers.base import Candidate, SearchStart
from study_memory import memory

pytestmark = pytest.mark.usefixtures("quick_commits")

SOURCES = tuple(Source(name, ModelReference(f"org/{name}")) for name in ("ja", "math"))
INGREDIENTS = Ingredients(None, SOURCES, ["model.embed.weight"], "float32", n_layers=(6, 6))
WHOLE = Portion("search")


@pytest.mark.parametrize(
    ("optimizer", "evaluations", "generations"),
    [
        ({"sigma0": 1 / 6, "population_size": 4, "startup_trial": False}, 12, 20),
        ({"sigma0": 1 / 6, "population_size": 4, "startup_trial": True}, 12, 20),  # whose first generation is of one
        (None, 10, None),  # what grows is counted by evaluations alone
    ],
)
def test_a_plan_counts_candidates(optimizer, evaluations, generations):
    def made(genes):
        if optimizer is None:
            return CMAESRestart(genes, 1, sigma0=1 / 6, population_size=4, strategy="ipop")
        return CMAES(genes, 1, **optimizer)

    def most(**budget):
        space = mixing(INGREDIENTS, 1)
        return SingleSearch(space, made(space.genes)).most_candidates(Budget(**budget))

    assert most(evaluations=10) == evaluations
    assert most(generations=5) == generations
    assert most(minutes=1.0) is None


def mixing(ingredients, seed):
    return ParameterSpace(ingredients, seed, method=Linear(), granularity="model", bounds={})


def routing(ingredients, seed):
    options = {"encoding": Segments(n_segments=2), "scales": NoScales(), "scale_target": "residual", "max_hops": None}
    return DataFlowSpace(ingredients, seed, **options)


def cmaes(genes, seed):
    return CMAES(genes, seed, sigma0=1 / 6, population_size=4, startup_trial=False)


class Asked:
    """A task by name only."""

    objectives = ("right",)

    def examples(self, split):
        return [Example(str(n), "", "") for n in range(4)]


def hybrid(**changes):
    options = {
        "parameter": {"ps": {"space": mixing, "optimizer": None, "task": None, "budget": None}},
        "data_flow": {"space": routing, "optimizer": cmaes},
        "pairs": [["ps", "ja"], ["ja", "math"]],
        "trial": 1,
        "budget": {"generations": 2},
    }
    return Hybrid(INGREDIENTS, 7, cmaes, **options | changes)


class Formula:
    """Mixtures are worth as much as they are near (0.3, 0.7), paths what chance says, by stage or by recipe.

    Args:
        worth: By how much paths that begin with a layer of some model are better than others.
    """

    def __init__(self, worth=None):
        self.asked, self._worth = [], worth or {}

    def evaluate(self, recipe, portion):
        self.asked.append((recipe_hash(recipe), portion.key))
        chance = int(hashlib.sha256(recipe_hash(recipe).encode()).hexdigest(), 16)
        if isinstance(recipe, DataFlowRecipe):
            if chance % 7 == 0:
                return failed(("accuracy",), 1, "logits are not finite")
            score = (chance % 101) / 1000 + self._worth.get(recipe.path[0].model, 0.0)
        else:
            weights = np.asarray(recipe.parameters[0].values["weight"])
            score = 1 - float(((weights - [0.3, 0.7]) ** 2).sum())
        spread = np.asarray([-0.01, 0.01, -0.01, 0.01])  # so that a mean has an error
        return Evaluation(("accuracy",), 1, (score + spread)[:, None], ("x",) * 4)


class Listener:
    """A tracker that writes down what it hears."""

    def __init__(self):
        self.starts, self.candidates, self.generations, self.said = [], [], [], []

    def stage(self, text):
        self.said.append(text)

    def start(self, start):
        self.starts.append(start)

    def candidate(self, candidate):
        self.candidates.append(candidate)

    def generation(self, generation):
        self.generations.append(generation)


def conduct(study, program, evaluator, trackers=(), own=None, budget=None, results=None):
    start = partial(SearchStart, run_folder=Path(), config={}, baselines={}, seconds=0.0)
    conditions = Conditions(
        run=Run(study, trackers, start),
        evaluator=Recorded(evaluator, study, lambda: False),
        evaluator_of=lambda stage, task: Recorded(own, study, lambda: False),
        portion=lambda generation: WHOLE,
        objectives=("accuracy",),
        budget=budget or Budget(generations=2),
        choose=lambda stages: next(iter(ranked_candidates(study, 1, stages)), None),
    )
    found = program.conduct(conditions)
    if results is not None:
        results += found
    return memory(study)


# -- what is composed ------------------------------------------------------------------------------------------------------


def test_all_ordered_pairs_of_sources_and_results_are_searched_where_none_is_named():
    names = list(hybrid(pairs=None).spaces)

    assert names[0] == "ps"
    assert names[1:] == ["ps>ja", "ps>math", "ja>ps", "ja>math", "math>ps", "math>ja"]


def test_the_box_of_a_pair_is_known_before_the_run():
    spaces = hybrid().spaces
    genome = np.asarray([gene.start for gene in spaces["ps>ja"].genes])

    assert list(spaces) == ["ps", "ps>ja", "ja>math"]
    assert [gene.name for gene in spaces["ps>ja"].genes][:2] == ["segment/0/ja", "segment/1/ja"]
    assert {step.model for step in spaces["ps>ja"].decode(genome).path} == {"ps"}  # model A first


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parameter": {}}, "merge.parameter is empty; a hybrid needs at least one stage in parameter space"),
        ({"trial": 0}, "merge.trial must be at least 1, got 0"),
        ({"pairs": []}, "merge.pairs must name at least one pair, and none twice; null is all of them"),
        ({"pairs": [["ps", "ja"], ["ps", "ja"]]}, "merge.pairs must name at least one pair, and none twice"),
        ({"pairs": [["ps", "jo"]]}, "merge.pairs: there is no model 'jo'; there are ps, ja, math"),
        ({"pairs": [["ja", "ja"]]}, "merge.pairs: a pair is two different names, [a, b], got ['ja', 'ja']"),
        ({"pairs": [["ja", "math", "ps"]]}, "a pair is two different names, [a, b], got ['ja', 'math', 'ps']"),
        ({"pairs": [["ja"]]}, "a pair is two different names, [a, b], got ['ja']"),
        ({"pairs": ["ja"]}, "a pair is two different names, [a, b], got ja"),
        ({"parameter": {"ja": {"space": mixing}}}, "a stage cannot be called 'ja'; choose a name that no source has"),
        ({"parameter": {"a>b": {"space": mixing}}}, "a stage cannot be called 'a>b'"),
        ({"parameter": {"a/b": {"space": mixing}}}, "a stage cannot be called 'a/b'"),
        (
            {"parameter": {"ps": {"space": mixing, "optimiser": None}}},
            "merge.parameter.ps: there is no option 'optimiser'; there are space, optimizer, task, budget",
        ),
        ({"parameter": {"ps": {}}}, "merge.parameter.ps.space is missing: +merge@merge.parameter.ps.space=dare_ties"),
        (
            {"parameter": {"ps": {"space": mixing, "budget": {"evaluation": 3}}}},
            "merge.parameter.ps.budget: there is no limit 'evaluation'; there are evaluations, generations, patience",
        ),
        ({"budget": {"evaluations": 0}}, "merge.budget.evaluations must be a whole number above 0 or null, got 0"),
        ({"budget": {"evaluations": "abc"}}, "merge.budget.evaluations must be a whole number above 0 or null, got 'abc'"),
        ({"budget": {"minutes": 3}}, "merge.budget takes no minutes; budget.minutes is for the whole run"),
        ({"budget": 5}, "merge.budget must have limits such as merge.budget.evaluations=50, got 5"),
        ({"pairs": [1, 2]}, "merge.pairs: a pair is two different names, [a, b], got 1"),
        ({"parameter": {"ps": None}}, "merge.parameter.ps must have options such as merge.parameter.ps.budget.evaluations=50"),
        (
            {"parameter": {"ps": {"space": mixing, "optimizer": "sep_cmaes"}}},
            "optimizer=, with merge.parameter.ps.optimizer._partial_=true: optimizer@merge.parameter.ps.optimizer=<choice>",
        ),
        ({"data_flow": {"space": None, "optimizer": None}}, "merge.data_flow.space must be one of the choices of merge="),
        ({"budget": {}}, "merge.budget: the budget has no limit"),
        ({"budget": {"candidates": 3}}, "merge.budget: there is no limit 'candidates'"),
    ],
)
def test_what_cannot_be_is_one_sentence(changes, said):
    with pytest.raises(ConfigError) as caught:
        hybrid(**changes)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_optimizer_that_refuses_a_stage_does_so_before_the_run():
    def small(genes, seed):
        return CMAES(genes, seed, sigma0=1 / 6, population_size=3, startup_trial=False)

    with pytest.raises(ValueError, match="population_size must be at least 4"):
        hybrid(data_flow={"space": routing, "optimizer": small})


# -- what is searched ------------------------------------------------------------------------------------------------------


def test_first_mixtures_then_a_trial_of_each_pair_then_those_that_are_left(tmp_path):
    listener = Listener()
    with opened(Study.create(tmp_path)) as study:
        found = conduct(study, program := hybrid(), Formula(), [listener], results=(results := []))
        best = {name: ranked_candidates(study, 1, [name])[0] for name in ("ps", "ps>ja")}

        assert program.final_stages == ["ps", "ps>ja", "ja>math"]
        (entrant,) = results
        assert listener.said == ["0 of 2 pairs dropped; left: ps>ja, ja>math"]
        assert (entrant.role, entrant.name) == ("stage", "ps, parameter space alone")
        assert entrant.recipe == best["ps"].recipe
        assert [count_evaluated(study, name) for name in program.spaces] == [
            len({recipe for _, stage, _, _, _, recipe, _ in found if stage == name}) for name in program.spaces
        ]

    turns = [("ps", 0), ("ps", 1), ("ps>ja", 0), ("ja>math", 0), ("ps>ja", 1), ("ja>math", 1)]
    assert [(stage, generation) for _, stage, generation, *_ in found] == [turn for turn in turns for _ in range(4)]
    assert [(g.number, g.round) for g in listener.generations] == [(turn[1], n) for n, turn in enumerate(turns)]
    assert [start.stage for start in listener.starts] == ["ps", "ps>ja", "ja>math", "ps>ja", "ja>math"]
    through = best["ps>ja"].recipe
    assert isinstance(through, DataFlowRecipe)
    assert {source.name: source.reference for source in through.models}["ps"] == ModelReference(recipe=best["ps"].recipe)


def test_a_pair_that_is_clearly_behind_after_its_trial_is_dropped(tmp_path):
    with opened(Study.create(tmp_path)) as study:
        found = conduct(study, hybrid(), Formula(worth={"ja": 0.5}))

    turns = [("ps>ja", 0), ("ja>math", 0), ("ja>math", 1)]
    assert [(stage, generation) for _, stage, generation, *_ in found[8:]] == [turn for turn in turns for _ in range(4)]


def test_a_pair_of_which_nothing_could_be_scored_is_dropped(tmp_path):
    class Fragile(Formula):
        def evaluate(self, recipe, portion):
            if isinstance(recipe, DataFlowRecipe) and recipe.path[0].model == "ps":
                return failed(("accuracy",), 1, "logits are not finite")
            return super().evaluate(recipe, portion)

    with opened(Study.create(tmp_path)) as study:
        found = conduct(study, hybrid(), Fragile())

    assert [stage for _, stage, *_ in found[8:]] == ["ps>ja"] * 4 + ["ja>math"] * 8


def test_a_stage_of_which_nothing_could_be_built_says_so(tmp_path):
    class Broken(Formula):
        def evaluate(self, recipe, portion):
            return failed(("accuracy",), 1, "weights are not finite")

    with opened(Study.create(tmp_path)) as study, pytest.raises(ConfigError, match="no candidate of stage 'ps' could be built"):
        conduct(study, hybrid(), Broken())


def test_a_stage_may_have_a_task_an_optimizer_and_a_budget_of_its_own(tmp_path):
    own, run, task = Formula(), Formula(), Asked()
    random = partial(RandomSearch, population_size=2)
    stages = {"en": {"space": mixing, "task": task, "optimizer": random, "budget": {"generations": 1}}, "ps": {"space": mixing}}
    program = hybrid(parameter=stages, pairs=[["en", "ps"]])
    with opened(Study.create(tmp_path)) as study:
        found = conduct(study, program, run, own=own, results=(results := []))

        assert program.tasks == {"en": task}
        assert program.final_stages == ["ps", "en>ps"]  # what another task says is no score of this one
        assert [entrant.name for entrant in results] == ["en, parameter space alone", "ps, parameter space alone"]

    assert [(stage, portion) for _, stage, _, portion, *_ in found] == [
        *[("en", "en/search")] * 2,
        *[("ps", "search")] * 8,
        *[("en>ps", "search")] * 8,
    ]
    assert {key for _, key in own.asked} == {"en/search"}
    assert {key for _, key in run.asked} == {"search"}


# -- resuming --------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


class Mortal:
    """Calls an evaluator until its last life is gone, as a kill would end it."""

    def __init__(self, evaluator, lives):
        self._evaluator, self._lives = evaluator, lives

    def evaluate(self, recipe, portion):
        if self._lives == 0:
            raise Killed
        self._lives -= 1
        return self._evaluator.evaluate(recipe, portion)


@pytest.mark.parametrize("worth", [{}, {"ja": 0.5}], ids=["both pairs", "one pair dropped"])
def test_killed_at_any_evaluation_and_resumed_equals_unbroken(tmp_path, worth):
    (tmp_path / "whole").mkdir()
    formula, unbroken = Formula(worth), Listener()
    with opened(Study.create(tmp_path / "whole")) as study:
        whole = conduct(study, hybrid(budget={"generations": 3}), formula, [unbroken])
    told = [(c.number, c.stage, c.generation, c.round) for c in unbroken.candidates]
    assert [number for number, *_ in told] == list(range(len(whole)))

    for lives in range(len(formula.asked)):
        folder, formula, listener = tmp_path / str(lives), Formula(worth), Listener()
        folder.mkdir()
        with pytest.raises(Killed), opened(Study.create(folder)) as study:
            conduct(study, hybrid(budget={"generations": 3}), Mortal(formula, lives), [listener])
        with opened(Study.resume(folder)) as study:
            resumed = conduct(study, hybrid(budget={"generations": 3}), formula, [listener])

        assert resumed == whole
        assert len(formula.asked) == len(set(formula.asked))
        assert [(c.number, c.stage, c.generation, c.round) for c in listener.candidates] == told


def test_a_pair_that_gets_far_ahead_after_its_trial_does_not_drop_another_when_the_run_is_resumed(tmp_path):
    # The trial's best are alike. What "ps>ja" finds later is far above, which must not count again.
    (tmp_path / "plain").mkdir()
    with opened(Study.create(tmp_path / "plain")) as study:
        plain = conduct(study, hybrid(), Formula())
    places = {}
    for _, stage, generation, _, _, recipe, (_, failure) in plain:
        places.setdefault((stage, generation, failure), set()).add(recipe)
    (late, *_) = places["ps>ja", 1, None] - places["ps>ja", 0, None]

    class Leaping(Formula):
        def evaluate(self, recipe, portion):
            evaluation = super().evaluate(recipe, portion)
            return replace(evaluation, scores=evaluation.scores + 0.8) if recipe_hash(recipe) == late else evaluation

    (tmp_path / "whole").mkdir()
    evaluator = Leaping()
    with opened(Study.create(tmp_path / "whole")) as study:
        whole = conduct(study, hybrid(), evaluator)
    assert [stage for _, stage, *_ in whole[16:]] == ["ps>ja"] * 4 + ["ja>math"] * 4

    broken = Leaping()
    with pytest.raises(Killed), opened(Study.create(tmp_path)) as study:
        conduct(study, hybrid(), Mortal(broken, len(evaluator.asked) - 1))
    with opened(Study.resume(tmp_path)) as study:
        assert conduct(study, hybrid(), broken) == whole


def test_what_paths_were_searched_with_stays_whatever_the_budget_says_now(tmp_path):
    with opened(Study.create(tmp_path)) as study:
        whole = conduct(study, hybrid(), Formula())
    evaluator = Formula()
    with opened(Study.resume(tmp_path)) as study:
        # With a larger budget the first stage would find something better, and so the pairs would be others.
        assert conduct(study, hybrid(), evaluator, budget=Budget(generations=30)) == whole
        assert not evaluator.asked


# -- which pairs are hopeful -----------------------------------------------------------------------------------------------


def searched(name, *members):
    """A search that found candidates of these (scores of two objectives, violation)."""
    front = Front()
    for number, (scores, violation) in enumerate(members):
        columns = np.array([[score] * N_ASKED for score in scores]).T
        columns[0] += 0.01  # so that there is a standard error
        evaluation = Evaluation(("a", "b")[: len(scores)], len(scores), columns, ("",) * N_ASKED, violation=violation)
        front.add(Candidate(number, name, 0, 0, np.zeros(1), None, evaluation, False), evaluation.fitness, violation)
    return SimpleNamespace(stage=SimpleNamespace(name=name), front=front)


N_ASKED = 50


def names_left(*searches):
    return [search.stage.name for search in hopeful(searches)]


def test_a_pair_clearly_behind_in_every_objective_is_dropped():
    ahead, mixed, behind = searched("x", ([0.9, 0.1], 0)), searched("y", ([0.1, 0.5], 0)), searched("z", ([0.1, 0.1], 0))
    assert names_left(ahead, mixed) == ["x", "y"]
    assert names_left(ahead, mixed, behind) == ["x", "y"]


def test_a_pair_that_keeps_to_the_constraints_is_not_dropped_for_one_that_does_not():
    assert names_left(searched("good", ([0.9], 3.0)), searched("kept", ([0.4], 0.0))) == ["kept"]
    assert names_left(searched("good", ([0.9], 3.0)), searched("bad", ([0.4], 2.0))) == ["good"]
    assert names_left(searched("nothing"), searched("kept", ([0.4], 0.0))) == ["kept"]
    assert names_left(searched("nothing"), searched("no more")) == ["nothing", "no more"]
