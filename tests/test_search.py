"""The loop with real spaces, optimizers and studies; only the evaluator is a formula of the recipe's weights."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from evo_merge.errors import ConfigError, Interrupted, StudyError
from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.methods.linear import Linear
from evo_merge.optimizers.cmaes import CMAES
from evo_merge.portions import search_portion
from evo_merge.ranking import count_evaluated, leaders, ranked_candidates
from evo_merge.recipe import ModelReference, Source, recipe_hash
from evo_merge.recipe_file import from_yaml
from evo_merge.recorded import Recorded
from evo_merge.search import Budget, Run, Search, Stage
from evo_merge.spaces.base import Ingredients
from evo_merge.spaces.parameter import ParameterSpace
from evo_merge.study import Study, opened
from evo_merge.study_records import Entrant
from evo_merge.tasks.base import Portion
from evo_merge.trackers.base import SearchStart
from study_memory import memory

pytestmark = pytest.mark.usefixtures("quick_commits")

SOURCES = tuple(Source(name, ModelReference(name)) for name in ("ja", "math"))


def space_of(*sources):
    ingredients = Ingredients(None, sources, ["model.embed.weight"], "float32")
    return ParameterSpace(ingredients, 1, method=Linear(), granularity="model", bounds={})


SPACE = space_of(*SOURCES)
WHOLE = Portion("search")
START = partial(SearchStart, run_folder=Path(), config={}, baselines={})
N_PROBLEMS, BATCH = 12, 4


class Formula:
    """Scores problems by how near the weights are to (0.3, 0.7); a weight of the first above 0.9 cannot be built.

    The further back a problem stands in the split, the easier it is, so that another batch has other scores.
    """

    def __init__(self):
        self.asked = []

    def evaluate(self, recipe, portion):
        self.asked.append((recipe_hash(recipe), portion.key))
        weights = np.asarray(recipe.parameters[0].values["weight"])
        if weights[0] > 0.9:
            return failed(("accuracy",), 1, "weights are not finite")
        score = 1 - float(((weights - [0.3, 0.7]) ** 2).sum())
        if portion.positions is None:
            return Evaluation(("accuracy",), 1, np.full((4, 1), score), ("x",) * 4)
        scores = score + np.asarray(portion.positions, dtype=float)[:, None] / 100
        return Evaluation(("accuracy",), 1, scores, ("x",) * len(scores), positions=portion.positions)


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
        self.starts, self.candidates, self.generations = [], [], []

    def start(self, start):
        self.starts.append(start)

    def candidate(self, candidate):
        self.candidates.append(candidate)

    def generation(self, generation):
        self.generations.append(generation)


def cmaes(seed=1, population_size=4):
    return CMAES(SPACE.genes, seed, sigma0=1 / 6, population_size=population_size, startup_trial=False)


def stage_of(study, optimizer, evaluator=None, *, name="", space=SPACE, stop=lambda: False, portion=lambda generation: WHOLE):
    return Stage(name, space, optimizer, Recorded(evaluator or Formula(), study, stop), portion, ("accuracy",))


def run(folder, optimizer, budget, evaluator=None, *, resumed=False, trackers=(), **options):
    with opened(Study.resume(folder) if resumed else Study.create(folder)) as study:
        Search(stage_of(study, optimizer, evaluator, **options), Run(study, trackers, START)).advance(budget)
        return memory(study)


# -- budgets ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("evaluations", "expected"), [(1, 4), (4, 4), (5, 8), (8, 8), (9, 12)])
def test_a_budget_of_evaluations_never_cuts_a_generation(tmp_path, evaluations, expected):
    evaluator = Formula()
    found = run(tmp_path, cmaes(), Budget(evaluations=evaluations), evaluator)

    assert len(found) == len(evaluator.asked) == expected


def test_a_budget_of_generations_counts_rounds(tmp_path):
    found = run(tmp_path, cmaes(), Budget(generations=3))

    assert [generation for _, _, generation, *_ in found] == [0] * 4 + [1] * 4 + [2] * 4


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
        def evaluate(self, recipe, portion):
            now[0] += 10
            return super().evaluate(recipe, portion)

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
        recorded.evaluate(SPACE.decode(start), WHOLE)
        stage = stage_of(study, Scripted([start, [0.1, 0.1]], [[0.2, 0.2]]))
        Search(stage, Run(study, [], START)).advance(Budget(evaluations=2))

        assert len(study.candidates()) == 3
        assert count_evaluated(study) == 2


def test_a_search_that_only_repeats_itself_ends(tmp_path):
    evaluator, optimizer = Formula(), Scripted([[0.1, 0.2]])

    run(tmp_path, optimizer, Budget(evaluations=2), evaluator)

    assert len(evaluator.asked) == 1
    assert len(optimizer.told) == 101
    optimizer = Scripted([[0.1, 0.2]])
    run(tmp_path, optimizer, Budget(evaluations=2), evaluator, resumed=True)
    assert len(optimizer.told) == 101


def test_failed_candidates_get_the_worst_fitness_and_the_search_goes_on(tmp_path):
    optimizer = Scripted([[0.95, 0.5], [0.3, 0.7]], [[0.99, 0.1], [0.91, 0.2]], [[0.1, 0.1], [0.2, 0.2]])
    with opened(Study.create(tmp_path)) as study:
        Search(stage_of(study, optimizer), Run(study, [], START)).advance(Budget(generations=3))
        ranked = ranked_candidates(study, 10, [""])
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
        Search(stage_of(study, Scripted(proposed), Ties()), Run(study, [], START)).advance(Budget(generations=1))

        assert [c.number for c in ranked_candidates(study, 10, [""])] == [0, 1, 2]  # the fourth repeats the first


class Ties(Formula):
    """Everything is worth the same."""

    def evaluate(self, recipe, portion):
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
        best = ranked_candidates(study, 10, [""])[0]
    assert fuse.burnt == 2 * (1 + 8 + 8 + 2 + 2 + 2)  # start, evaluations, candidates and generations told, asks, tells

    for steps in range(fuse.burnt):
        folder = tmp_path / str(steps)
        folder.mkdir()
        fuse, formula, listener = Fuse(steps), Formula(), Listener()
        with pytest.raises(Killed):
            run(folder, Fused(make(), fuse), budget, Fused(formula, fuse), trackers=[Fused(listener, fuse)])
        resumed = run(folder, make(), budget, formula, resumed=True, trackers=[listener])

        assert resumed == whole
        with opened(Study.read(folder)) as study:
            again = ranked_candidates(study, 10, [""])[0]
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


def test_a_replay_runs_what_the_study_holds_and_nothing_new(tmp_path):
    def replay(optimizer, evaluator, listener):
        with opened(Study.resume(tmp_path)) as study:
            search = Search(stage_of(study, optimizer, evaluator), Run(study, [listener], START))
            search.replay()
            return search.front.members, memory(study)

    Study.create(tmp_path).close()
    assert replay(cmaes(), None, Listener()) == ([], [])
    run(tmp_path, cmaes(), Budget(generations=2), resumed=True)
    evaluator = Formula()
    with pytest.raises(Interrupted):  # in the third generation
        run(tmp_path, cmaes(), Budget(generations=5), evaluator, resumed=True, stop=lambda: len(evaluator.asked) == 1)

    evaluator, listener = Formula(), Listener()
    (leader,), found = replay(cmaes(), evaluator, listener)

    assert len(found) == 12
    assert len(evaluator.asked) == 3  # what was begun is finished
    assert ([c.number for c in listener.candidates], [g.number for g in listener.generations]) == ([9, 10, 11], [2])
    assert len(listener.starts) == 1
    assert leader.number == max(found, key=lambda candidate: candidate[-1][0])[0]


def test_the_trackers_are_told_the_time_spent_when_a_search_begins_and_when_it_goes_on(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("evo_merge.study.time.monotonic", lambda: now[0])
    listener = Listener()
    with opened(Study.create(tmp_path)) as study:
        search = Search(stage_of(study, cmaes()), Run(study, [listener], partial(START, seconds=0.0)))
        for generations in (1, 2):
            now[0] += 10
            search.advance_to(generations)

    assert [start.seconds for start in listener.starts] == [10, 20]


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
        first, second = recorded.evaluate(recipe, WHOLE), recorded.evaluate(recipe, WHOLE)
        assert len(evaluator.asked) == 1
        recorded.evaluate(recipe, Portion("test"))

    assert first.scores.tolist() == second.scores.tolist()
    assert [key for _, key in evaluator.asked] == ["search", "test"]


# -- batches: some of the problems, others in each generation ---------------------------------------------------------------


def batches(seed=1):
    return search_portion([N_PROBLEMS], BATCH, seed)


def test_a_batch_is_drawn_anew_for_each_generation_and_alike_in_every_session():
    drawn = [batches()(generation) for generation in range(20)]

    for portion in drawn:
        assert portion.split == "search"
        assert len(set(portion.positions)) == BATCH
        assert set(portion.positions) <= set(range(N_PROBLEMS))
        assert list(portion.positions) == sorted(portion.positions)
    assert len({portion.key for portion in drawn}) > 15
    assert {position for portion in drawn for position in portion.positions} == set(range(N_PROBLEMS))
    assert [batches()(generation) for generation in reversed(range(20))] == drawn[::-1]
    assert [batches(seed=2)(generation) for generation in range(20)] != drawn


@pytest.mark.parametrize("batch", [None, N_PROBLEMS, N_PROBLEMS + 1])
def test_a_batch_of_all_problems_is_the_whole_split(batch):
    assert [search_portion([N_PROBLEMS], batch, 1)(generation) for generation in range(3)] == [WHOLE] * 3


def test_every_part_of_a_split_gives_its_share_of_a_batch():
    portion = search_portion([30, 10, 2], 12, seed=1)

    for generation in range(20):
        positions = np.array(portion(generation).positions)
        counts, _ = np.histogram(positions, [0, 30, 40, 42])
        assert counts.tolist() == [9, 3, 1]
        assert len(set(positions.tolist())) == 13
    assert portion(0) != portion(1)


def test_all_candidates_of_a_generation_are_asked_one_batch_and_those_of_the_next_another(tmp_path):
    evaluator = Formula()

    found = run(tmp_path, cmaes(), Budget(generations=3), evaluator, portion=batches())

    expected = [batches()(generation).key for generation in range(3)]
    assert len(set(expected)) == 3
    assert [portion for _, _, _, portion, *_ in found] == [key for key in expected for _ in range(4)]
    assert [key for _, key in evaluator.asked] == [portion for _, _, _, portion, *_ in found]


def test_a_known_recipe_on_a_new_batch_is_an_evaluation(tmp_path):
    evaluator, optimizer, listener = Formula(), Scripted([[0.1, 0.2], [0.1, 0.2]]), Listener()
    start = SPACE.decode(np.array([0.1, 0.2]))
    with opened(Study.create(tmp_path)) as study:
        study.record_entrant(Entrant("unoptimised", "linear", start))  # and known on the whole split besides
        Recorded(evaluator, study, lambda: False).evaluate(start, WHOLE)
        stage = stage_of(study, optimizer, evaluator, portion=batches())
        Search(stage, Run(study, [listener], START)).advance(Budget(evaluations=3))

        assert count_evaluated(study) == 3

    assert [key for _, key in evaluator.asked] == ["search", *(batches()(generation).key for generation in range(3))]
    assert [candidate.repeated for candidate in listener.candidates] == [False, True] * 3
    first, second, third = (told[1][0] for told in optimizer.told)
    assert len({first, second, third}) == 3  # each of its own batch


def test_batches_resumed_anywhere_equal_unbroken(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole", cmaes(), Budget(generations=3), portion=batches())
    for n_evaluated in range(12):
        folder, evaluator = tmp_path / str(n_evaluated), Formula()
        folder.mkdir()
        stop = partial(lambda evaluator, n: len(evaluator.asked) == n, evaluator, n_evaluated)
        with pytest.raises(Interrupted):
            run(folder, cmaes(), Budget(generations=3), evaluator, stop=stop, portion=batches())

        assert run(folder, cmaes(), Budget(generations=3), evaluator, resumed=True, portion=batches()) == whole
        assert len(evaluator.asked) == len(set(evaluator.asked)) == 12


def test_other_batches_are_not_the_same_run(tmp_path):
    run(tmp_path, cmaes(), Budget(generations=1), portion=batches())

    with pytest.raises(StudyError, match="generation 0 is not what the run proposed before"):
        run(tmp_path, cmaes(), Budget(generations=1), resumed=True, portion=batches(seed=2))


# -- who is to choose from -------------------------------------------------------------------------------------------------


def test_the_leaders_are_the_best_of_each_generation_the_last_first_and_each_recipe_once(tmp_path):
    generations = (
        [[0.3, 0.6], [0.1, 0.1]],  # 0 leads, and so it does in generation 3, where it is number 7
        [[0.95, 0.5], [0.99, 0.5]],  # both fail
        [[0.2, 0.2], [0.3, 0.5]],  # 5 leads
        [[0.1, 0.2], [0.3, 0.6]],
        [[0.3, 0.4], [0.3, 0.4]],  # the earlier of equals
    )
    with opened(Study.create(tmp_path)) as study:
        stage = stage_of(study, Scripted(*generations), portion=batches())
        Search(stage, Run(study, [], START)).advance(Budget(generations=5))
        found = leaders(study, [""])

        assert [(c.number, c.generation) for c in found] == [(8, 4), (7, 3), (5, 2)]
        assert leaders(study, ["other"]) == []
        for candidate in found:
            assert candidate.evaluation.positions == batches()(candidate.generation).positions
            assert candidate.evaluation.fitness == study.evaluation(candidate.recipe, candidate_key(study, candidate)).fitness


def test_only_the_recipes_of_those_that_are_returned_are_read(tmp_path, monkeypatch):
    read = []
    with opened(Study.create(tmp_path)) as study:
        Search(stage_of(study, cmaes()), Run(study, [], START)).advance(Budget(generations=5))
        monkeypatch.setattr("evo_merge.study_candidates.from_yaml", lambda text: read.append(text) or from_yaml(text))

        Search(stage_of(study, cmaes()), Run(study, [], START))
        assert (count_evaluated(study), len(read)) == (20, 0)
        ranked_candidates(study, 3, [""])
        assert len(read) == 3
        leaders(study, [""])
        assert len(read) == 3 + 5


def candidate_key(study, candidate):
    return study.candidates()[candidate.number].portion


def test_the_ranking_is_of_the_stages_that_are_named(tmp_path):
    with opened(Study.create(tmp_path)) as study:
        shared = Run(study, [], START)
        for name, genomes in (("a", [[0.3, 0.7], [0.3, 0.5]]), ("b", [[0.3, 0.6], [0.3, 0.7]])):
            Search(stage_of(study, Scripted(genomes), name=name), shared).advance(Budget(generations=1))

        assert [(c.stage, c.number) for c in ranked_candidates(study, 10, ["a"])] == [("a", 0), ("a", 1)]
        assert [(c.stage, c.number) for c in ranked_candidates(study, 10, ["b"])] == [("b", 3), ("b", 2)]
        assert [c.number for c in ranked_candidates(study, 2, ["a", "b"])] == [0, 2]  # 3 repeats 0
        assert ranked_candidates(study, 10, []) == []
        assert [count_evaluated(study, name) for name in "ab"] == [2, 2]


# -- several searches in one study -----------------------------------------------------------------------------------------


def interleaved(study, make_a, make_b, evaluator, trackers=(), more=2):
    """Two searches that take turns: a, b, then a again to the end, then b."""
    shared = Run(study, trackers, START)
    a, b = (
        Search(stage_of(study, make(), evaluator, name=name, portion=batches()), shared)
        for name, make in (("a", make_a), ("b", make_b))
    )
    for search in (a, b):
        search.advance_to(1)
    for search in (a, b):
        search.advance(Budget(generations=more))
    return memory(study)


def test_two_searches_take_turns_in_one_study(tmp_path):
    listener = Listener()
    with opened(Study.create(tmp_path)) as study:
        found = interleaved(study, cmaes, lambda: cmaes(seed=2), Formula(), [listener])

    turns = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert [(stage, generation) for _, stage, generation, *_ in found] == [turn for turn in turns for _ in range(4)]
    assert [number for number, *_ in found] == list(range(16))
    assert [start.stage for start in listener.starts] == ["a", "b", "a", "b"]
    assert [start.evaluated for start in listener.starts] == [0, 0, 4, 4]
    assert [[member.stage for member in start.front] for start in listener.starts] == [[], [], ["a"], ["b"]]
    told = [(generation.number, generation.round) for generation in listener.generations]
    assert told == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert [(c.stage, c.generation, c.round) for c in listener.candidates[::4]] == [
        ("a", 0, 0), ("b", 0, 1), ("a", 1, 2), ("b", 1, 3)
    ]  # fmt: skip
    by_stage = {stage: [scores for _, of, *_, scores in found if of == stage] for stage in "ab"}
    (tmp_path / "alone").mkdir()
    alone = run(tmp_path / "alone", cmaes(), Budget(generations=2), portion=batches())
    assert by_stage["a"] == [scores for *_, scores in alone]  # as if it had been by itself


def test_searches_that_take_turns_resumed_at_every_possible_point_equal_unbroken(tmp_path):
    (tmp_path / "whole").mkdir()
    fuse, unbroken = Fuse(10**9), Listener()
    with opened(Study.create(tmp_path / "whole")) as study:
        whole = interleaved(study, cmaes, lambda: cmaes(seed=2), Fused(Formula(), fuse), [Fused(unbroken, fuse)])
    places = {c.number: (c.stage, c.generation, c.round) for c in unbroken.candidates}

    for steps in range(fuse.burnt):
        folder = tmp_path / str(steps)
        folder.mkdir()
        fuse, formula, listener = Fuse(steps), Formula(), Listener()
        with pytest.raises(Killed), opened(Study.create(folder)) as study:
            interleaved(study, cmaes, lambda: cmaes(seed=2), Fused(formula, fuse), [Fused(listener, fuse)])
        with opened(Study.resume(folder)) as study:
            resumed = interleaved(study, cmaes, lambda: cmaes(seed=2), formula, [listener])

        assert resumed == whole
        assert len(formula.asked) - len(set(formula.asked)) <= 1  # the one in flight
        heard = [c.number for c in listener.candidates]
        assert len(heard) in (15, 16)  # a kill between recording and telling costs one
        assert heard == sorted(set(heard))
        assert {c.number: (c.stage, c.generation, c.round) for c in listener.candidates}.items() <= places.items()


def test_an_earlier_stage_that_changed_is_refused(tmp_path):
    def both(study, n_first):
        shared = Run(study, [], START)
        Search(stage_of(study, cmaes(), name="first"), shared).advance(Budget(generations=n_first))
        (best,) = ranked_candidates(study, 1, ["first"])
        space = space_of(SOURCES[0], Source("found", ModelReference(recipe=best.recipe)))
        optimizer = CMAES(space.genes, 3, sigma0=1 / 6, population_size=4, startup_trial=False)
        evaluator = Formula()
        Search(stage_of(study, optimizer, evaluator, name="second", space=space), shared).advance(Budget(generations=1))
        return best.number, len(evaluator.asked)

    with opened(Study.create(tmp_path)) as study:
        first, _ = both(study, 1)
    with opened(Study.resume(tmp_path)) as study:
        assert both(study, 1) == (first, 0)
        before = [c for c in memory(study) if c[1] == "second"]
        with pytest.raises(
            StudyError, match=r"^generation 0 of stage 'second' is not what .* an earlier stage changed: restore"
        ):
            both(study, 8)  # goes on, and finds something better

        assert [c for c in memory(study) if c[1] == "second"] == before


def test_proposals_are_made_with_one_thread_whatever_the_machine_has(tmp_path):
    """With two, sums are made in another order, and a large covariance gives other candidates."""
    seen = []

    class Watched(CMAES):
        def ask(self):
            seen.append({library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"})
            return super().ask()

        def tell(self, genomes, evaluations):
            seen.append({library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"})
            super().tell(genomes, evaluations)

    optimizer = Watched(SPACE.genes, 1, sigma0=1 / 6, population_size=4, startup_trial=False)
    with opened(Study.create(tmp_path)) as study, threadpool_limits(limits=2, user_api="blas"):
        run = Run(study, [], partial(SearchStart, run_folder=tmp_path, config={}, baselines={}))
        stage = Stage("", SPACE, optimizer, Recorded(Formula(), study, lambda: False), lambda number: WHOLE, ("accuracy",))
        Search(stage, run).advance(Budget(generations=2))
    assert seen == [{1}] * 4
