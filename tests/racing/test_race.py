"""Races in the real loop, with real studies; only the evaluator is a formula of the recipe's weights."""

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from evo_merge.errors import ConfigError, Interrupted
from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.evaluation.cost import Cost
from evo_merge.evaluation.pieced import Pieced
from evo_merge.methods.linear import Linear
from evo_merge.optimizers.cmaes import CMAES
from evo_merge.portions import disagreement_portion, fixed_portion, growing
from evo_merge.racing.race import Outcome, Race, told
from evo_merge.racing.rules import Rules
from evo_merge.ranking import count_evaluated, ranked_candidates
from evo_merge.recipe import ModelReference, Source, recipe_hash
from evo_merge.recorded import Recorded
from evo_merge.search import Budget, Run, Search, Stage
from evo_merge.spaces.base import Ingredients
from evo_merge.spaces.parameter import ParameterSpace
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Example, Portion
from evo_merge.trackers.base import SearchStart
from study_memory import memory

pytestmark = pytest.mark.usefixtures("quick_commits")

SOURCES = tuple(Source(name, ModelReference(name)) for name in ("ja", "math"))
SPACE = ParameterSpace(
    Ingredients(None, SOURCES, ["model.embed.weight"], "float32"), 1, method=Linear(), granularity="model", bounds={}
)
WHOLE = Portion("search")
START = partial(SearchStart, run_folder=Path(), config={}, baselines={})
N = 80
EXAMPLES = [Example(str(i), "q", "a") for i in range(N)]


class Marks:
    """Answers a problem right by chance, the more often the nearer the weights are to (0.3, 0.7); the same each time."""

    def __init__(self):
        self.asked = []  # (recipe, problem)
        self.calls = 0

    def evaluate(self, recipe, portion):
        self.calls += 1
        weights = np.asarray(recipe.parameters[0].values["weight"])
        places = range(N) if portion.positions is None else portion.positions
        self.asked += [(recipe_hash(recipe), place) for place in places]
        if weights[0] > 0.95:
            return failed(("accuracy",), 1, "weights are not finite")
        chance = np.random.default_rng(int(recipe_hash(recipe)[:8], 16)).random(N)
        right = (chance < 1 - 1.5 * np.abs(weights - [0.3, 0.7]).sum())[list(places)]
        texts = tuple(f"{place}" for place in places)
        return Evaluation(
            ("accuracy",), 1, right[:, None].astype(float), texts, cost=Cost(new_tokens=len(texts)), positions=portion.positions
        )


class Listener:
    def __init__(self):
        self.candidates, self.generations = [], []

    def start(self, start):
        pass

    def candidate(self, candidate):
        self.candidates.append(candidate)

    def generation(self, generation):
        self.generations.append(generation)


class Scripted:
    def __init__(self, *generations):
        self.generations, self.told = [np.asarray(genomes, dtype=float) for genomes in generations], []

    def ask(self):
        return self.generations[min(len(self.told), len(self.generations) - 1)]

    def tell(self, genomes, evaluations):
        self.told.append(evaluations)


def cmaes():
    return CMAES(SPACE.genes, 1, sigma0=1 / 3, population_size=8, startup_trial=False)


def run(folder, optimizer, evaluator, *, resumed=False, generations=3, rules=Rules(risk=0.2), trackers=(), **options):  # noqa: B008
    with opened(Study.resume(folder) if resumed else Study.create(folder)) as study:
        study.record_examples("search", EXAMPLES)
        stop, portion = options.get("stop", lambda: False), options.get("portion", lambda generation: WHOLE)
        race = None if rules is None else Race(rules, {"": [N]}, seed=3)
        recorded = Recorded(Pieced(evaluator, study), study, stop)
        stage = Stage("", SPACE, optimizer, recorded, portion, ("accuracy",), race)
        search = Search(stage, Run(study, trackers, START))
        search.advance(Budget(generations=generations))
        candidates = study.candidates()
        stops = [c.asked if c.is_stopped else "" for c in candidates]
        outcomes = [study.evaluation(c.recipe, c.asked) for c in candidates]
        kept = [(e.scores.tobytes(), e.completions, e.cost.new_tokens, e.failure) for e in outcomes]
        best = [(c.number, c.evaluation.fitness.tolist()) for c in ranked_candidates(study, 3, [""])]
        return memory(study), stops, kept, best, count_evaluated(study), [c.number for c in search.front.members]


def test_some_are_stopped_and_nothing_is_asked_twice(tmp_path):
    marks, listener = Marks(), Listener()

    _, stops, _, best, n_evaluated, front = run(tmp_path, cmaes(), marks, trackers=[listener])

    stopped = [c for c in listener.candidates if c.is_stopped]
    assert 0 < len(stopped) < len(listener.candidates) == len(stops) == n_evaluated == 24
    assert len(marks.asked) == len(set(marks.asked)) == sum(len(c.evaluation.scores) for c in listener.candidates)
    assert {len(c.evaluation.scores) for c in stopped} <= {10, 20, 40}
    assert all(len(c.evaluation.scores) == N for c in listener.candidates if not c.is_stopped)
    assert not {c.number for c in stopped} & {number for number, _ in best}
    assert front == [best[0][0]]
    assert [c.number for c in listener.candidates] == list(range(24))


def test_survivors_have_the_evaluation_that_they_had_without_a_race(tmp_path):
    for name in ("race", "full"):
        (tmp_path / name).mkdir()
    genomes = cmaes().ask()
    _, stops, raced, *_ = run(tmp_path / "race", Scripted(genomes), Marks(), generations=1)
    _, _, full, *_ = run(tmp_path / "full", Scripted(genomes), Marks(), generations=1, rules=None)

    survivors = [i for i, stop in enumerate(stops) if not stop]
    assert 4 <= len(survivors) < 8
    assert [raced[i] for i in survivors] == [full[i] for i in survivors]


def test_the_order_is_the_seeds_and_another_for_each_generation(tmp_path):
    whole = growing(WHOLE, [N], 4, [3, 0])
    assert [len(p.positions or EXAMPLES) for p in whole] == [10, 20, 40, N]
    assert whole == growing(WHOLE, [N], 4, [3, 0])
    assert not {p.key for p in whole[:-1]} & {p.key for p in growing(WHOLE, [N], 4, [3, 8])}
    for smaller, larger in itertools.pairwise(whole[:-1]):
        assert set(smaller.positions) < set(larger.positions)


def test_each_part_of_a_task_gives_its_share_of_every_slice():
    looks = growing(WHOLE, [40, 8], 4, [1])
    assert [sum(p >= 40 for p in look.positions) for look in looks[:-1]] == [1, 2, 4]
    few = growing(Portion("search", (3, 5, 9)), [40], 4, [1])
    assert [look.positions and len(look.positions) for look in few] == [1, 2, 3]
    assert few[-1] == Portion("search", (3, 5, 9))


def test_equal_candidates_are_all_asked_everything(tmp_path):
    marks = Marks()
    _, stops, *_ = run(tmp_path, Scripted([[0.31, 0.69]] * 8), marks, generations=1, rules=Rules(risk=0.9))

    assert stops == [""] * 8
    assert len(marks.asked) == N  # once, for they are one recipe


class Killed(BaseException):
    pass


class Fused:
    """Ends the session before or after the n-th evaluation, as a kill would."""

    def __init__(self, marks, steps):
        self.marks, self.left = marks, steps

    def evaluate(self, recipe, portion):
        self._step()
        found = self.marks.evaluate(recipe, portion)
        self._step()
        return found

    def _step(self):
        self.left -= 1
        if self.left < 0:
            raise Killed


def test_killed_inside_a_race_and_resumed_equals_unbroken(tmp_path):
    (tmp_path / "whole").mkdir()
    marks = Marks()
    whole = run(tmp_path / "whole", cmaes(), marks, generations=2)
    assert any(whole[1])

    for steps in range(1, 2 * marks.calls, 7):
        folder = tmp_path / str(steps)
        folder.mkdir()
        again, listener = Marks(), Listener()
        with pytest.raises(Killed):
            run(folder, cmaes(), Fused(again, steps), generations=2, trackers=[listener])
        assert run(folder, cmaes(), again, resumed=True, generations=2, trackers=[listener]) == whole
        in_flight = 40  # at most a slice
        assert len(again.asked) - len(set(again.asked)) <= in_flight
        assert [c.number for c in listener.candidates] == list(range(16))


def test_interrupted_inside_a_race(tmp_path):
    marks = Marks()
    with pytest.raises(Interrupted):
        run(tmp_path, cmaes(), marks, stop=lambda: marks.calls == 10)
    with opened(Study.read(tmp_path)) as study:
        assert not any(p.is_evaluated for p in study.proposals())
    (tmp_path / "whole").mkdir()

    assert run(tmp_path, cmaes(), marks, resumed=True) == run(tmp_path / "whole", cmaes(), Marks())
    assert len(marks.asked) == len(set(marks.asked))


def test_what_fails_is_out_and_ranks_last(tmp_path):
    optimizer = Scripted([[0.3, 0.7], [0.99, 0.5], [0.31, 0.7], [0.9, 0.05], [0.32, 0.7], [0.28, 0.7]])
    _, stops, _, best, n_evaluated, _ = run(tmp_path, optimizer, Marks(), generations=1)

    fitness = [float(e.fitness[0]) for e in optimizer.told[0]]
    assert fitness[1] == -np.inf
    assert stops[1]
    assert stops[3]
    assert n_evaluated == 6
    assert 1 not in {number for number, _ in best}
    with opened(Study.read(tmp_path)) as study:
        assert all(p.is_evaluated for p in study.proposals())


def test_a_repeat_is_free_and_is_asked_only_what_it_was_not(tmp_path):
    first = [[0.3, 0.7], [0.31, 0.7], [0.9, 0.05], [0.29, 0.7]]
    marks, listener = Marks(), Listener()
    run(tmp_path, Scripted(first, first), marks, generations=2, trackers=[listener])

    assert [c.repeated for c in listener.candidates] == [False] * 4 + [True] * 4
    assert [c.is_stopped for c in listener.candidates] == [False, False, True, False] * 2
    assert len(marks.asked) == len(set(marks.asked))
    with opened(Study.read(tmp_path)) as study:
        assert count_evaluated(study) == 4


def outcome(score, *, asked=None, failure=None):
    if failure is not None:
        return Outcome(failed(("accuracy",), 1, failure), asked)
    return Outcome(Evaluation(("accuracy",), 1, np.asarray(score, dtype=float)[:, None], ("x",) * len(score)), asked)


def test_the_stopped_are_told_below_all_survivors_in_their_own_order():
    slice_ = Portion("search", (0, 1))
    outcomes = [
        outcome([1, 1, 0, 0]),
        outcome([1, 1], asked=slice_),
        outcome([1, 0], asked=slice_),
        outcome([], failure="broken", asked=slice_),
        outcome([1, 0, 0, 0]),
        outcome([0, 0], asked=slice_),
    ]
    heard = [float(e.fitness[0]) for e in told(outcomes)]

    assert heard[0] == 0.5
    assert heard[4] == 0.25
    assert heard[4] > heard[1] > heard[2] > heard[5] > heard[3] == -np.inf


def test_the_stopped_are_told_what_they_scored_where_that_is_below_all_survivors():
    outcomes = [outcome([1, 1, 0, 0]), outcome([0, 0], asked=Portion("search", (0, 1)))]

    assert [float(e.fitness[0]) for e in told(outcomes)] == [0.5, 0.0]


def test_graded_scores_are_refused(tmp_path):
    class Graded(Marks):
        def evaluate(self, recipe, portion):
            found = super().evaluate(recipe, portion)
            return Evaluation(("rouge",), 1, found.scores / 2 + 0.1, found.completions, positions=found.positions)

    with pytest.raises(ConfigError, match="compares right answers with wrong ones, and 'rouge' has scores between"):
        run(tmp_path, cmaes(), Graded())


@pytest.mark.parametrize(
    ("rules", "said"),
    [({"slices": 1}, "slices must be at least 2"), ({"keep": 1.0}, "keep must lie"), ({"risk": 0.0}, "risk must lie")],
)
def test_rules_that_cannot_be_are_refused(rules, said):
    with pytest.raises(ConfigError, match=said):
        Rules(**rules)


# -- subsets ---------------------------------------------------------------------------------------------------------------


def test_a_fixed_subset_is_the_same_for_all_generations():
    portion = fixed_portion([N], 10, seed=4)
    assert portion(0) == portion(7)
    assert len(portion(0).positions) == 10
    assert portion(0) != fixed_portion([N], 10, seed=5)(0)


def test_disagreement_chooses_what_models_differ_in():
    scores = np.asarray([[1, 0, 1, 0, 1, 1], [1, 0, 0, 0, 1, 0], [1, 0, 0, 1, 1, np.nan]])
    asked = []
    portion = disagreement_portion([6], 3, 1, lambda: asked.append(1) or scores)

    assert portion(0) == portion(3) == Portion("search", (2, 3, 5))
    assert asked == [1]
    both = disagreement_portion([3, 3], 2, 1, lambda: scores)(0)
    assert both.positions == (2, 5)  # an even split in the second part says more than one against two


def test_a_subset_can_be_raced(tmp_path):
    marks, listener = Marks(), Listener()
    run(tmp_path, cmaes(), marks, trackers=[listener], portion=fixed_portion([N], 40, seed=1))

    assert max(len(c.evaluation.scores) for c in listener.candidates) == 40
    assert any(c.is_stopped for c in listener.candidates)
    assert len({place for _, place in marks.asked}) == 40


def test_a_run_from_before_there_were_races_can_be_read_and_resumed(tmp_path):
    import sqlite3

    before = run(tmp_path, cmaes(), Marks(), generations=1, rules=None)
    with sqlite3.connect(tmp_path / "study.sqlite") as connection:
        connection.execute("DROP TABLE stopped")
    with opened(Study.read(tmp_path)) as study:
        assert not any(c.is_stopped for c in study.candidates())

    assert run(tmp_path, cmaes(), Marks(), generations=1, rules=None, resumed=True) == before
