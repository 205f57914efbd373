"""The loop with real spaces, optimizers and studies; only the evaluator is a formula of the recipe's weights."""

import math

import numpy as np
import pytest

from evo_merge.errors import ConfigError, Interrupted, StudyError
from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.methods.linear import Linear
from evo_merge.optimizers.cmaes import CMAES
from evo_merge.recipe import ModelReference, Source, recipe_hash
from evo_merge.search import Budget, Recorded, count_evaluated, ranked_candidates, search
from evo_merge.spaces.base import Ingredients
from evo_merge.spaces.parameter import ParameterSpace
from evo_merge.study import Entrant, Study, opened

SOURCES = tuple(Source(name, ModelReference(name)) for name in ("ja", "math"))
SPACE = ParameterSpace(
    Ingredients(None, SOURCES, ["model.embed.weight"], "float32"),
    1,
    method=Linear(),
    granularity="model",
    bounds={},
)


class Formula:
    """Scores four problems by how near the weights are to (0.3, 0.7); a weight of the first above 0.9 cannot be built."""

    def __init__(self):
        self.asked = []

    def evaluate(self, recipe, split):
        self.asked.append(recipe_hash(recipe))
        weights = np.asarray(recipe.parameters[0].values["weight"])
        if weights[0] > 0.9:
            return failed(("accuracy",), 1, "weights are not finite")
        score = 1 - float(((weights - [0.3, 0.7]) ** 2).sum())
        return Evaluation(("accuracy",), 1, np.full((4, 1), score), ("x",) * 4)


class Scripted:
    """Proposes what it was given, the last generation again and again; keeps what it is told."""

    def __init__(self, *generations):
        self.generations = [np.asarray(genomes, dtype=float) for genomes in generations]
        self.told = []

    def ask(self):
        return self.generations[min(len(self.told), len(self.generations) - 1)]

    def tell(self, genomes, evaluations):
        self.told.append((genomes, [float(e.fitness[0]) for e in evaluations]))


class Listener:
    """A tracker that writes down what it hears."""

    def __init__(self):
        self.candidates, self.generations = [], []

    def candidate(self, candidate):
        self.candidates.append(candidate)

    def generation(self, generation):
        self.generations.append(generation)


def cmaes(seed=1, population_size=4):
    return CMAES(SPACE.genes, seed, sigma0=1 / 6, population_size=population_size, startup_trial=False)


def run(folder, optimizer, budget, evaluator=None, *, resumed=False, trackers=(), stop=lambda: False):
    with opened(Study.resume(folder) if resumed else Study.create(folder)) as study:
        evaluator = evaluator or Formula()
        search(SPACE, optimizer, Recorded(evaluator, study, stop), study, trackers, budget)
        return memory(study)


def memory(study):
    """Everything that the study holds of the candidates."""
    found = []
    for c in study.candidates():
        evaluation = study.evaluation(c.recipe, "search")
        scores = None if evaluation is None else (evaluation.scores.tolist(), evaluation.failure)
        found.append((c.number, c.generation, c.genome.tolist(), recipe_hash(c.recipe), scores))
    return found


# -- budgets ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("evaluations", "expected"), [(1, 4), (4, 4), (5, 8), (8, 8), (9, 12)])
def test_a_budget_of_evaluations_never_cuts_a_generation(tmp_path, evaluations, expected):
    evaluator = Formula()
    found = run(tmp_path, cmaes(), Budget(evaluations=evaluations), evaluator)

    assert len(found) == len(evaluator.asked) == expected


def test_a_budget_of_generations_counts_rounds(tmp_path):
    found = run(tmp_path, cmaes(), Budget(generations=3))

    assert [generation for _, generation, *_ in found] == [0] * 4 + [1] * 4 + [2] * 4


def test_the_first_limit_that_is_reached_ends_the_search(tmp_path):
    assert len(run(tmp_path, cmaes(), Budget(evaluations=100, generations=2, minutes=60, patience=50))) == 8


def test_patience_counts_generations_without_a_better_candidate(tmp_path):
    worse, better = [[0.8, 0.1], [0.9, 0.1]], [[0.3, 0.7], [0.9, 0.2]]
    others = [[[0.8, i / 100], [0.81, i / 100]] for i in range(9)]
    optimizer = Scripted(worse, better, *others)

    run(tmp_path, optimizer, Budget(patience=3))

    assert len(optimizer.told) == 2 + 3


def test_an_equal_candidate_is_no_better_one(tmp_path):
    optimizer = Scripted(*[[[0.3, 0.7 + step], [0.3, 0.7 - step]] for step in (0.01, 0.01, 0.01, 0.005)])

    run(tmp_path, optimizer, Budget(patience=2))

    assert len(optimizer.told) == 3


def test_minutes_count_the_time_of_all_sessions(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("evo_merge.study.time.monotonic", lambda: now[0])

    class Slow(Formula):
        def evaluate(self, recipe, split):
            now[0] += 10
            return super().evaluate(recipe, split)

    assert len(run(tmp_path, cmaes(), Budget(minutes=1), Slow())) == 8  # 40 s, then 80 s
    now[0] += 10_000
    assert len(run(tmp_path, cmaes(), Budget(minutes=2), Slow(), resumed=True)) == 12
    assert len(run(tmp_path, cmaes(), Budget(minutes=2), Slow(), resumed=True)) == 12


@pytest.mark.parametrize("limits", [{"evaluations": 0}, {"generations": -1}, {"minutes": 0.0}, {"patience": 0}, {}])
def test_a_budget_that_cannot_be_is_refused(limits):
    with pytest.raises(ConfigError, match=r"^(budget\.\w+ must be above 0 or null|the budget has no limit)"):
        Budget(**limits)


# -- repeats and failures --------------------------------------------------------------------------------------------------


def test_repeats_are_free_and_the_trackers_hear_of_them(tmp_path):
    first, second = [[0.1, 0.2], [0.1, 0.2]], [[0.1, 0.2], [0.3, 0.4]]
    evaluator, optimizer, listener = Formula(), Scripted(first, second, [[0.5, 0.6], [0.7, 0.8]]), Listener()

    found = run(tmp_path, optimizer, Budget(evaluations=3), evaluator, trackers=[listener])

    assert len(evaluator.asked) == 4  # two of the four in the first two generations are new, so a third one follows
    assert len(found) == 6
    assert [c.repeated for c in listener.candidates] == [False, True, True, False, False, False]
    assert [c.number for c in listener.candidates] == list(range(6))
    assert optimizer.told[0][1][0] == optimizer.told[0][1][1] == optimizer.told[1][1][0]


def test_a_candidate_that_is_a_baseline_is_free(tmp_path):
    start = np.array([0.5, 0.5])
    with opened(Study.create(tmp_path)) as study:
        study.record_entrant(Entrant("unoptimised", "linear", SPACE.decode(start)))
        recorded = Recorded(Formula(), study, lambda: False)
        recorded.evaluate(SPACE.decode(start), "search")
        search(SPACE, Scripted([start, [0.1, 0.1]], [[0.2, 0.2]]), recorded, study, [], Budget(evaluations=2))

        assert len(study.candidates()) == 3
        assert count_evaluated(study) == 2


def test_a_search_that_only_repeats_itself_ends(tmp_path):
    evaluator, optimizer = Formula(), Scripted([[0.1, 0.2]])

    run(tmp_path, optimizer, Budget(evaluations=2), evaluator)

    assert len(evaluator.asked) == 1
    assert len(optimizer.told) == 101


def test_failed_candidates_get_the_worst_fitness_and_the_search_goes_on(tmp_path):
    optimizer = Scripted([[0.95, 0.5], [0.3, 0.7]], [[0.99, 0.1], [0.91, 0.2]], [[0.1, 0.1], [0.2, 0.2]])
    with opened(Study.create(tmp_path)) as study:
        search(SPACE, optimizer, Recorded(Formula(), study, lambda: False), study, [], Budget(generations=3))
        ranked = ranked_candidates(study, limit=10)
        reasons = [study.evaluation(c.recipe, "search").failure for c in study.candidates()]

    assert optimizer.told[0][1] == [-math.inf, 1.0]
    assert optimizer.told[1][1] == [-math.inf, -math.inf]
    assert [c.number for c in ranked] == [1, 5, 4]
    assert [reason is not None for reason in reasons] == [True, False, True, True, False, False]


def test_cmaes_learns_also_where_candidates_fail(tmp_path):
    found = run(tmp_path, cmaes(), Budget(generations=12))

    scores = [np.mean(scores) for *_, (scores, failure) in found if failure is None]
    assert np.mean(scores[-8:]) > np.mean(scores[:8])
    assert max(scores) > 0.99


def test_among_equals_the_earlier_is_the_best(tmp_path):
    with opened(Study.create(tmp_path)) as study:
        proposed = [[0.3, 0.6], [0.2, 0.7], [0.3, 0.8], [0.3, 0.6]]  # equally far, up to the last bits
        search(SPACE, Scripted(proposed), Recorded(Ties(), study, lambda: False), study, [], Budget(generations=1))

        assert [c.number for c in ranked_candidates(study, limit=10)] == [0, 1, 2]  # the fourth repeats the first


class Ties(Formula):
    """Everything is worth the same."""

    def evaluate(self, recipe, split):
        return Evaluation(("accuracy",), 1, np.full((4, 1), 0.5), ("x",) * 4)


# -- stopping and resuming -------------------------------------------------------------------------------------------------


def test_interrupted_after_the_candidate_in_flight(tmp_path):
    evaluator = Formula()
    with pytest.raises(Interrupted):
        run(tmp_path, cmaes(), Budget(generations=3), evaluator, stop=lambda: len(evaluator.asked) == 6)

    assert len(evaluator.asked) == 6
    with opened(Study.read(tmp_path)) as study:
        assert count_evaluated(study) == 6  # the sixth is recorded
        assert len(study.candidates()) == 8  # and what was proposed with it


class Killed(BaseException):
    pass


class Fuse:
    """Ends the session at its n-th step, as a kill would."""

    def __init__(self, steps):
        self.left = steps
        self.burnt = 0

    def step(self):
        self.burnt += 1
        if self.burnt > self.left:
            raise Killed


class Fused:
    """Calls the parts of a session with a step of the fuse before and after each call."""

    def __init__(self, part, fuse):
        self._part, self._fuse = part, fuse

    def __getattr__(self, name):
        method = getattr(self._part, name)

        def call(*arguments):
            self._fuse.step()
            result = method(*arguments)
            self._fuse.step()
            return result

        return call


def test_resumed_at_every_possible_point_equals_unbroken(tmp_path):
    def make():
        return cmaes()

    budget = Budget(generations=2)
    (tmp_path / "whole").mkdir()
    fuse = Fuse(10**9)
    whole = run(tmp_path / "whole", Fused(make(), fuse), budget, Fused(Formula(), fuse), trackers=[Fused(Listener(), fuse)])
    with opened(Study.read(tmp_path / "whole")) as study:
        best = ranked_candidates(study, limit=10)[0]
    assert fuse.burnt == 2 * (8 + 8 + 2 + 2 + 2)  # evaluations, candidates and generations told, asks, tells

    for steps in range(fuse.burnt):
        folder = tmp_path / str(steps)
        folder.mkdir()
        fuse, formula, listener = Fuse(steps), Formula(), Listener()
        with pytest.raises(Killed):
            run(folder, Fused(make(), fuse), budget, Fused(formula, fuse), trackers=[Fused(listener, fuse)])
        resumed = run(folder, make(), budget, formula, resumed=True, trackers=[listener])

        assert resumed == whole
        with opened(Study.read(folder)) as study:
            again = ranked_candidates(study, limit=10)[0]
        assert (again.number, again.genome.tolist()) == (best.number, best.genome.tolist())
        assert len(formula.asked) - len(set(formula.asked)) <= 1  # the one in flight
        heard = [c.number for c in listener.candidates]
        assert len(heard) in (7, 8)  # a kill between recording and telling costs one
        assert heard == sorted(set(heard))
        assert {g.number for g in listener.generations} == {0, 1}


def test_a_finished_search_resumed_evaluates_nothing_and_tells_nobody(tmp_path):
    whole = run(tmp_path, cmaes(), Budget(generations=2))
    evaluator, listener = Formula(), Listener()

    assert run(tmp_path, cmaes(), Budget(generations=2), evaluator, resumed=True, trackers=[listener]) == whole
    assert (evaluator.asked, listener.candidates, listener.generations) == ([], [], [])


def test_a_larger_budget_goes_on_as_if_there_had_been_no_end(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "a", cmaes(), Budget(generations=4))
    run(tmp_path / "b", cmaes(), Budget(generations=2))

    assert run(tmp_path / "b", cmaes(), Budget(generations=4), resumed=True) == whole


def test_a_smaller_budget_finishes_the_generation_that_was_begun(tmp_path):
    evaluator = Formula()
    with pytest.raises(Interrupted):
        run(tmp_path, cmaes(), Budget(generations=4), evaluator, stop=lambda: len(evaluator.asked) == 6)

    assert len(run(tmp_path, cmaes(), Budget(generations=1), evaluator, resumed=True)) == 8
    assert len(evaluator.asked) == 8


def test_another_seed_is_not_the_same_run(tmp_path):
    run(tmp_path, cmaes(), Budget(generations=1))

    with pytest.raises(StudyError, match="generation 0 is not what the run proposed before"):
        run(tmp_path, cmaes(seed=2), Budget(generations=1), resumed=True)


def test_the_optimizer_and_the_trackers_hear_only_what_is_committed(tmp_path):
    heard = []

    def look(number):
        with opened(Study.read(tmp_path)) as study:  # a connection of its own sees only what is committed
            candidate = study.candidates()[number]
            heard.append(study.is_evaluated(candidate.recipe, "search"))

    class Looking(Listener):
        def candidate(self, candidate):
            look(candidate.number)

    class Watched(Scripted):
        def tell(self, genomes, evaluations):
            for index in range(len(genomes)):
                look(sum(len(told) for told, _ in self.told) + index)
            super().tell(genomes, evaluations)

    optimizer = Watched([[0.1, 0.2], [0.2, 0.3]], [[0.3, 0.4], [0.4, 0.5]])
    run(tmp_path, optimizer, Budget(generations=2), trackers=[Looking()])

    assert heard == [True] * 8


def test_what_is_known_is_never_evaluated_again(tmp_path):
    evaluator, recipe = Formula(), SPACE.decode(np.array([0.1, 0.2]))
    with opened(Study.create(tmp_path)) as study:
        recorded = Recorded(evaluator, study, lambda: False)
        first, known_at_first = recorded.evaluate(recipe, "search")
        second, known_then = recorded.evaluate(recipe, "search")
        recorded.evaluate(recipe, "test")

    assert (known_at_first, known_then) == (False, True)
    assert first.scores.tolist() == second.scores.tolist()
    assert len(evaluator.asked) == 2
