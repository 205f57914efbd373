import signal
import sqlite3
import struct
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from evo_merge.errors import StudyError
from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.evaluation.cost import Cost
from evo_merge.recipe import DataFlowRecipe, ModelReference, ParameterRule, ParameterSpaceRecipe, Source, Step, recipe_hash
from evo_merge.study import Study, opened
from evo_merge.study_records import Entrant
from evo_merge.tasks.base import Example, Portion
from evo_merge.tasks.multiple_choice import ChoiceExample

SEARCH = Portion("search")
EXAMPLES = [Example("a", "1たす1は？", "2"), Example("b", "いくつ\nですか", "0.1")]


def recipe(weight=0.5):
    return ParameterSpaceRecipe(
        base=ModelReference("org/base", "v1"),
        sources=(Source("ja", ModelReference("./ja")), Source("math", ModelReference(adapter="x", base=ModelReference("y")))),
        method="task_arithmetic",
        options={"normalize": False},
        parameters=(ParameterRule(("*",), {"weight": (weight, 1 / 3)}),),
        seed=7,
        dtype="float32",
        out_dtype="bfloat16",
    )


def path(scale=1.0):
    """Through a model, and one that is a recipe."""
    models = (Source("a", ModelReference("./a")), Source("b", ModelReference(recipe=recipe())))
    return DataFlowRecipe(models, (Step("a", 0), Step("b", 3, scale)), "residual", "float32")


def evaluation():
    scores = np.array([[0.1 + 0.2, 1.0], [np.nextafter(1.0, 0.0), 5e-324]])
    return Evaluation(("score", "correct"), 1, scores, ("答えは２です。\n", "\x00\ud7ff"), None, Cost(0.1, 1 / 3, 12))


def test_a_new_run_is_read_back_by_another(tmp_path):
    with opened(Study.create(tmp_path)) as study:
        study.set("config", "seed: 1")
        study.record_examples("search", EXAMPLES)
        study.record_entrant(Entrant("source", "ja", recipe(0.25)))
        first = np.array([0.1 + 0.2, 1 / 3, -0.0, 5e-324, -np.inf])
        assert study.record_generation("ps", 0, SEARCH, [first], [recipe(0.1 + 0.2)]) == [0]
        assert study.record_generation("a>b", 0, Portion("search", (0, 3)), [np.array([0.0, 1.0])] * 2, [path(0.5)] * 2) == [
            1,
            2,
        ]

    with opened(Study.read(tmp_path)) as study:
        assert (study.get("config"), study.get("nothing")) == ("seed: 1", None)
        assert study.examples("search") == EXAMPLES
        assert study.examples("test") == []
        assert study.entrants() == [Entrant("source", "ja", recipe(0.25))]
        candidates = study.candidates()
        assert [(c.number, c.stage, c.generation) for c in candidates] == [(0, "ps", 0), (1, "a>b", 0), (2, "a>b", 0)]
        assert [c.portion for c in candidates] == ["search", *[Portion("search", (0, 3)).key] * 2]
        assert candidates[0].genome.tobytes() == first.tobytes()
        assert candidates[0].genome.dtype == np.float64
        assert candidates[0].recipe == recipe(0.1 + 0.2)
        assert candidates[2].recipe == path(0.5)


def test_proposals_are_the_candidates_with_neither_genome_nor_recipe_nor_completion_read(tmp_path):
    some = Portion("search", (1, 7))
    with opened(Study.create(tmp_path)) as study:
        assert (study.stages(), study.proposals()) == (frozenset(), [])
        study.record_generation("ps", 0, SEARCH, [np.zeros(1)] * 3, [recipe(0.1), recipe(0.2), recipe(0.1)])
        study.record_generation("a>b", 4, some, [np.ones(2)] * 2, [path(), recipe(0.1)])
        study.record_evaluation(recipe(0.1), SEARCH, evaluation())
        study.record_evaluation(path(), some, failed(("score", "correct"), 1, "logits are not finite"))
        asked = []
        study._db.set_trace_callback(asked.append)
        proposals = study.proposals()
        outcomes = [study.outcome(proposal) for proposal in proposals]
        study._db.set_trace_callback(None)

        candidates = study.candidates()
        assert study.stages() == {"ps", "a>b"}
        assert [study.candidate(number).recipe for number in range(5)] == [c.recipe for c in candidates]
    assert [(p.number, p.stage, p.generation, p.portion, p.recipe) for p in proposals] == [
        (c.number, c.stage, c.generation, c.portion, recipe_hash(c.recipe)) for c in candidates
    ]
    assert [p.is_evaluated for p in proposals] == [True, False, True, True, False]  # the last one not on its own portion
    scored = (evaluation().fitness.tolist(), 0.0)
    assert [found and (found[0].tolist(), found[1]) for found in outcomes] == [scored, None, scored, None, None]
    assert not any(word in statement for statement in asked for word in ("yaml", "genome", "completion"))


@pytest.mark.parametrize(("n_examples", "n_metrics", "n_objectives"), [(1, 1, 1), (250, 1, 1), (250, 3, 1), (1000, 3, 2)])
def test_an_outcome_is_the_fitness_to_the_bit_and_the_violation(tmp_path, n_examples, n_metrics, n_objectives):
    scores = np.random.default_rng(0).random((n_examples, n_metrics))
    scores[0, 0] = np.nan if n_examples > 1 else scores[0, 0]  # not one of the metric's examples
    answered = Evaluation(tuple("abc"[:n_metrics]), n_objectives, scores, ("x",) * n_examples, violation=0.1 + 0.2)
    with opened(Study.create(tmp_path)) as study:
        study.record_generation("", 0, SEARCH, [np.zeros(1)], [recipe()])
        study.record_evaluation(recipe(), SEARCH, answered)
        (proposal,) = study.proposals()

        fitness, violation = study.outcome(proposal)
        found = study.evaluation(recipe(), "search")
        assert fitness.tolist() == answered.fitness.tolist() == found.fitness.tolist()
        assert violation == found.violation == 0.1 + 0.2
        np.testing.assert_array_equal(found.scores, scores)


@pytest.mark.parametrize("failure", [None, "logits are not finite"])
def test_the_one_number_of_several_objectives_is_kept(tmp_path, failure):
    answered = replace(evaluation(), scalar=0.1) if failure is None else replace(failed(("a",), 1, failure), scalar=-np.inf)
    with opened(Study.create(tmp_path)) as study:
        study.record_evaluation(recipe(), SEARCH, answered)

        assert study.evaluation(recipe(), "search").fitness.tolist() == [answered.scalar]


def test_genomes_are_kept_as_little_endian_doubles(tmp_path):
    with opened(Study.create(tmp_path)) as study:
        study.record_generation("", 0, SEARCH, [np.array([1.0, -2.0])], [recipe()])
        ((blob,),) = study._db.execute("SELECT genome FROM candidates").fetchall()

    assert blob == struct.pack("<2d", 1.0, -2.0)


def test_an_evaluation_comes_back_to_the_bit(tmp_path):
    with opened(Study.create(tmp_path)) as study:
        study.record_evaluation(recipe(), SEARCH, evaluation())
    with opened(Study.resume(tmp_path)) as study:
        found = study.evaluation(recipe(), "search")
        assert study.evaluation(recipe(), "test") is None
        assert study.evaluation(recipe(0.51), "search") is None
        assert (study.is_evaluated(recipe(), "search"), study.is_evaluated(recipe(), "test")) == (True, False)

    assert found.scores.tobytes() == evaluation().scores.tobytes()
    assert found.scores.shape == (2, 2)
    assert found.completions == evaluation().completions
    assert (found.metrics, found.n_objectives, found.failure) == (("score", "correct"), 1, None)
    assert (found.cost.merge_seconds, found.cost.evaluation_seconds, found.cost.new_tokens) == (0.1, 1 / 3, 12)
    assert found.positions is None  # the whole split


def test_an_evaluation_of_some_examples_is_one_of_its_own_and_knows_which_they_were(tmp_path):
    some, others = Portion("search", (1, 7)), Portion("search", (0, 7))
    with opened(Study.create(tmp_path)) as study:
        study.record_evaluation(path(), some, replace(evaluation(), positions=(1, 7)))
        study.record_evaluation(path(), SEARCH, evaluation())
        study.record_evaluation(path(), others, failed(("score", "correct"), 1, "logits are not finite"))

        found = study.evaluation(path(), some.key)
        assert found.positions == (1, 7)
        assert found.scores.tobytes() == evaluation().scores.tobytes()
        assert found.completions == evaluation().completions
        assert study.evaluation(path(), "search").positions is None
        assert study.evaluation(path(), others.key).failure == "logits are not finite"
        assert not study.is_evaluated(path(), Portion("search", (1, 8)).key)
        assert not study.is_evaluated(path(), Portion("search", (1, 7), "en").key)


def test_portions_have_names_of_their_own():
    assert Portion("search").key == "search"
    assert Portion("search", stage="en").key == "en/search"
    some = [Portion("search", (1, 7)), Portion("search", (1, 8)), Portion("test", (1, 7)), Portion("search", (1, 7), "en")]
    assert len({portion.key for portion in some}) == 4
    assert some[0].key.startswith("search:")
    assert some[0].key == Portion("search", (1, 7)).key
    assert some[3].key.startswith("en/search:")


def test_a_failure_comes_back_with_its_reason_and_the_worst_fitness(tmp_path):
    with opened(Study.create(tmp_path)) as study:
        study.record_evaluation(recipe(), SEARCH, failed(("score", "correct"), 1, "logits are not finite", Cost(0.5)))
        found = study.evaluation(recipe(), "search")

    assert (found.failure, found.cost.merge_seconds, found.metrics) == ("logits are not finite", 0.5, ("score", "correct"))
    assert found.scores.shape == (0, 2)
    assert found.fitness.tolist() == [-np.inf]


def test_a_second_start_in_the_same_folder_is_refused_and_changes_nothing(tmp_path):
    with opened(Study.create(tmp_path)) as study:
        study.set("config", "first")
    before = (tmp_path / "study.sqlite").read_bytes()

    with pytest.raises(StudyError, match=r"already holds a run.*resume="):
        Study.create(tmp_path)

    assert (tmp_path / "study.sqlite").read_bytes() == before
    Study.resume(tmp_path).close()  # the refusal let go of the lock


def test_another_process_at_work_keeps_this_one_out(tmp_path):
    program = "import sys; from pathlib import Path; from evo_merge.study import Study\n"
    program += "study = Study.create(Path(sys.argv[1])); print('ready', flush=True); sys.stdin.read(); study.close()"
    words = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        for enter in (Study.create, Study.resume):
            with pytest.raises(StudyError, match="another process is running"):
                enter(tmp_path)
        Study.read(tmp_path).close()  # looking is always possible
        other.stdin.close()
        assert other.wait(30) == 0
    Study.resume(tmp_path).close()


@pytest.mark.parametrize("enter", [Study.resume, Study.read])
def test_a_folder_without_a_run_is_named(tmp_path, enter):
    with pytest.raises(StudyError, match=r"holds no run.*study\.sqlite"):
        enter(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("enter", [Study.resume, Study.read])
@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\x00"])
def test_a_file_that_is_no_record_is_named(tmp_path, enter, content):
    (tmp_path / "study.sqlite").write_bytes(content)

    with pytest.raises(StudyError, match="is not the record of a run"):
        enter(tmp_path)


@pytest.mark.parametrize("enter", [Study.resume, Study.read])
def test_a_record_of_another_version_is_refused(tmp_path, enter):
    Study.create(tmp_path).close()
    with sqlite3.connect(tmp_path / "study.sqlite") as database:
        database.execute("UPDATE run SET value = '99' WHERE key = 'schema_version'")
    database.close()

    with pytest.raises(StudyError, match="schema version 99, this evo-merge reads version 3"):
        enter(tmp_path)


def test_a_generation_proposed_again_must_be_the_same(tmp_path):
    genomes, recipes = [np.array([0.1, 0.2]), np.array([0.3, 0.4])], [recipe(0.1), recipe(0.3)]
    with opened(Study.create(tmp_path)) as study:
        study.record_generation("", 0, SEARCH, genomes, recipes)
        assert study.record_generation("", 0, SEARCH, genomes, recipes) == [0, 1]
        for other in (genomes[:1], [genomes[0], np.array([0.3, np.nextafter(0.4, 1)])], genomes[::-1]):
            with pytest.raises(StudyError, match="generation 0 is not what the run proposed before"):
                study.record_generation("", 0, SEARCH, other, recipes[: len(other)])
        for portion, those in ((Portion("search", (0, 1)), recipes), (SEARCH, [recipes[0], path()])):
            with pytest.raises(StudyError, match="generation 0 is not what the run proposed before"):
                study.record_generation("", 0, portion, genomes, those)
        assert len(study.candidates()) == 2
        study.record_generation("ps", 0, SEARCH, genomes[::-1], recipes[::-1])  # a stage of its own
        with pytest.raises(StudyError, match="generation 0 of stage 'ps' is not what the run proposed before"):
            study.record_generation("ps", 0, SEARCH, genomes, recipes)


def test_changed_data_is_refused(tmp_path):
    with opened(Study.create(tmp_path)) as study:
        study.record_examples("search", EXAMPLES)
        study.record_examples("search", tuple(EXAMPLES))
        for other in (EXAMPLES[:1], EXAMPLES[::-1], [EXAMPLES[0], Example("b", EXAMPLES[1].question, "0.10")]):
            with pytest.raises(StudyError, match="the data of the 'search' split changed"):
                study.record_examples("search", other)
        study.record_examples("test", EXAMPLES[:1])  # a split of its own


def test_examples_of_a_tasks_own_kind_are_known_again_and_told_apart_by_what_is_asked(tmp_path):
    own = [ChoiceExample("a", "1 + 1?", "2", choices=("2", "3"), right=0)]
    with opened(Study.create(tmp_path)) as study:
        study.record_examples("search", own, "these choices")
        study.record_examples("search", own, "these choices")
        with pytest.raises(StudyError, match="the data of the 'search' split changed"):
            study.record_examples("search", own, "other choices")


def test_a_model_beside_the_search_keeps_its_recipe_and_its_place(tmp_path):
    with opened(Study.create(tmp_path)) as study:
        for name in ("b", "a"):
            study.record_entrant(Entrant("source", name, recipe(0.1)))
        study.record_entrant(Entrant("best", "evolved", recipe(0.2)))
        with pytest.raises(StudyError, match="'a' is not the model it was"):
            study.record_entrant(Entrant("source", "a", recipe(0.3)))
        study.drop_entrant("best")
        study.record_entrant(Entrant("best", "evolved", recipe(0.4)))

        assert [(e.name, e.recipe) for e in study.entrants()] == [
            ("b", recipe(0.1)),
            ("a", recipe(0.1)),
            ("evolved", recipe(0.4)),
        ]


def test_an_error_while_recording_leaves_nothing(tmp_path):
    one_text_too_few = Evaluation(("score",), 1, np.ones((2, 1)), ("x",))
    with opened(Study.create(tmp_path)) as study:
        with pytest.raises(ValueError, match="zip"):
            study.record_evaluation(recipe(), SEARCH, one_text_too_few)

        assert study.evaluation(recipe(), "search") is None
        study.record_evaluation(recipe(), SEARCH, evaluation())
        assert len(study.evaluation(recipe(), "search").completions) == 2


def test_sigkill_while_recording_leaves_what_was_before(tmp_path):
    # The trace callback is called before each statement: the process dies between the two answers of one evaluation.
    program = f"""
        import os, runpy, signal
        from pathlib import Path
        from evo_merge.study import Study
        test = runpy.run_path({__file__!r})
        study = Study.create(Path({str(tmp_path)!r}))
        study.record_evaluation(test["recipe"](0.1), test["SEARCH"], test["evaluation"]())
        seen = []
        def watch(statement):
            seen.append(statement.startswith("INSERT INTO answers"))
            if sum(seen) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        study._db.set_trace_callback(watch)
        study.record_evaluation(test["recipe"](0.2), test["SEARCH"], test["evaluation"]())
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert killed.returncode == -signal.SIGKILL

    with opened(Study.resume(tmp_path)) as study:
        assert study.evaluation(recipe(0.1), "search").completions == evaluation().completions
        assert study.evaluation(recipe(0.2), "search") is None
        study.record_evaluation(recipe(0.2), SEARCH, evaluation())


def test_a_kill_while_the_record_is_created_leaves_no_half_record(tmp_path):
    program = f"""
        import os, signal, sqlite3
        from pathlib import Path
        from evo_merge import study, study_file
        def watched(connection):
            kill = lambda statement: "CREATE TABLE evaluations" in statement and os.kill(os.getpid(), signal.SIGKILL)
            connection.set_trace_callback(kill)
            return connection
        study_file._durable = watched
        study.Study.create(Path({str(tmp_path)!r}))
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert killed.returncode == -signal.SIGKILL

    with sqlite3.connect(tmp_path / "study.sqlite") as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == []
    database.close()


def test_time_is_summed_over_the_sessions(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("evo_merge.study.time.monotonic", lambda: now[0])
    with opened(Study.create(tmp_path)) as study:
        now[0] += 5
        assert study.seconds == 5
    now[0] += 1000
    with opened(Study.resume(tmp_path)) as study:
        now[0] += 2
        study.record_evaluation(recipe(), SEARCH, evaluation())
        now[0] += 1
        with opened(Study.read(tmp_path)) as reader:
            assert reader.seconds == 7  # kept with the evaluation, so that a kill loses no more than one
        assert study.seconds == 8


def test_a_reader_cannot_write(tmp_path):
    Study.create(tmp_path).close()
    with opened(Study.read(tmp_path)) as study, pytest.raises(sqlite3.OperationalError, match="readonly"):
        study.set("config", "x")


def test_a_commit_that_was_cut_off_is_rolled_back_for_readers(tmp_path):
    script = """
import os, signal, sqlite3, sys
from pathlib import Path
from evo_merge.study import Study
study = Study.create(Path(sys.argv[1]))
study.set("kept", "yes")
study._db.execute("PRAGMA cache_size = 5")  # pages go to the file before the commit
study._db.execute("BEGIN")
for i in range(2000):
    study._db.execute("INSERT INTO recipes VALUES (?, ?)", (str(i), "x" * 1000))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert (tmp_path / "study.sqlite-journal").exists()

    with opened(Study.read(tmp_path)) as study:
        assert study.get("kept") == "yes"
        assert study.candidates() == []


def test_other_weights_than_the_run_began_with_are_refused(tmp_path):
    with opened(Study.create(tmp_path)) as study:
        study.record_fingerprints({"a": "1", "b": "2"})
        study.record_fingerprints({"a": "1", "b": "2"})
        with pytest.raises(StudyError, match="the weights of 'b' changed"):
            study.record_fingerprints({"a": "1", "b": "3"})
