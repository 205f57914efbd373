import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from evo_merge.evaluation.base import Evaluation
from evo_merge.trackers.progress import Progress


@pytest.fixture
def pipe():
    return Console(file=io.StringIO(), width=80)


def terminal(width):
    return Console(file=io.StringIO(), width=width, height=30, force_terminal=True, color_system=None, legacy_windows=False)


def last_screen(console):
    """What a display that rewrites itself showed last."""
    return console.file.getvalue().rpartition("\x1b[2K")[2]


def test_a_pipe_gets_one_line_a_generation(story, pipe):
    progress = Progress(pipe)
    progress.stage("scoring the sources")
    story.tell(progress)
    progress.close()

    lines = pipe.file.getvalue().splitlines()
    assert lines[0] == "scoring the sources"
    assert lines[1].startswith("search: 2 genes, a budget of 9 candidates; score to beat: 11.8 % ja")
    assert [line.split(":")[0] for line in lines[2:]] == ["generation 0", "generation 1"]
    assert "5 of 9 candidates (1 repeated, 1 failed)" in lines[3]  # a repeated recipe costs no budget
    assert "\x1b" not in pipe.file.getvalue()


def test_a_generation_that_goes_beyond_the_budget_is_said_to_be_whole(story, pipe):
    progress = Progress(pipe)
    story = replace(story, start=replace(story.start, evaluations=4))
    story.tell(progress)

    first, last = pipe.file.getvalue().splitlines()[1:]
    assert "3 of 4 candidates" in first
    assert "5 candidates, beyond the budget of 4 as a generation is never cut (1 repeated, 1 failed)" in last
    assert "of 4 candidates" not in last


def test_lines_reach_a_pipe_at_once(story):
    class Flushed(io.StringIO):
        seen = ""

        def flush(self):
            self.seen = self.getvalue()

    file = Flushed()
    progress = Progress(Console(file=file))
    story.tell(progress, slice(0, 1))

    assert "generation 0" in file.seen


def test_of_several_objectives_a_line_tells_the_size_of_the_front(story, pipe):
    first = story.generations[0].candidates[0]
    made = [
        replace(first, number=number, evaluation=Evaluation(("ja", "en"), 2, np.tile(scores, (4, 1)), ("x",) * 4))
        for number, scores in enumerate([(0.25, 0.5), (0.5, 0.25), (0.25, 0.25)])
    ]
    progress = Progress(pipe)
    progress.start(replace(story.start, objectives=("ja", "en")))
    for candidate in made:
        progress.candidate(candidate)
    progress.generation(replace(story.generations[0], candidates=made))

    assert "generation 0: front of 2, best ja 50.0 %, en 50.0 %; ja here 50.0 %" in pipe.file.getvalue()


def test_the_best_is_the_best_of_all_generations(story, pipe):
    progress = Progress(pipe)
    story.tell(progress)

    best = max(c.evaluation.fitness[0] for g in story.generations for c in g.candidates)
    assert f"best {100 * best:.1f} %" in pipe.file.getvalue().splitlines()[-1]


def test_a_generation_of_failures_is_said_to_be_one(story, pipe):
    failed = story.generations[0].candidates[1]
    progress = Progress(pipe)
    progress.start(story.start)
    progress.candidate(failed)
    progress.generation(replace(story.generations[0], candidates=[failed]))

    assert "best none yet; all failed" in pipe.file.getvalue()


def test_scores_that_are_not_fractions_are_not_percentages(story, pipe):
    progress = Progress(pipe)
    progress.start(replace(story.start, baselines={"ja": 23.456}))

    assert "23.46 ja" in pipe.file.getvalue()
    assert "%" not in pipe.file.getvalue()


def test_a_resumed_search_goes_on_from_what_was_done(story, pipe):
    progress = Progress(pipe)
    rows = np.ones((7, 2))
    evaluation = Evaluation(("score", "correct"), 1, rows, ("x",) * 7)
    before = replace(story.generations[0].candidates[0], evaluation=evaluation)
    story = replace(story, start=replace(story.start, evaluated=4, seconds=3600.0, front=(before,)))
    story.tell(progress, slice(1, 2))

    line = pipe.file.getvalue().splitlines()[-1]
    assert "6 of 9 candidates" in line
    assert "1:00:00 spent" in line
    assert "best 100.0 %" in line


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_the_whole_state_inside_its_width(story, width):
    console = terminal(width)
    progress = Progress(console)
    progress.stage("scoring the sources")
    story.tell(progress)
    progress.close()

    screen = last_screen(console)
    for part in ("1 · 5 of 9 candidates", "best", "to beat", "11.8 % ja", "66.0 % dare_ties", "s a candidate", "left"):
        assert part in screen
    assert max(len(line) for line in screen.splitlines()) <= width
    assert console.file.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_the_final_table_names_everyone_and_the_files(story, pipe):
    progress = Progress(pipe)
    story.tell(progress)
    progress.finish(story.summary, story.files)
    progress.close()

    table = pipe.file.getvalue().partition("tiny_ja_math: score on 500 test examples")[2]
    rows = {line.split()[0]: line for line in table.splitlines() if line.strip()}
    assert "66.0 %   61.7 % to 70.0 %" in rows["dare_ties"]
    assert "+21.5 points" in rows["dare_ties"]
    assert "0.031" in rows["dare_ties"]
    assert "< 0.0001" in rows["ja"]
    assert "87.5 %   84.3 % to 90.2 %" in rows["evolved"]
    assert table.splitlines()[-2:] == [str(file) for file in story.files]


def test_a_pipe_names_the_stages_of_a_run_that_has_several(hybrid, pipe):
    progress = Progress(pipe)
    for part in hybrid:
        part.tell(progress)
    progress.close()

    lines = [line.split(";")[0] for line in pipe.file.getvalue().splitlines()]
    assert [line.split(":")[0] for line in lines] == [
        "search ps",
        "ps, generation 0",
        "search ps>ja",
        "ps>ja, generation 0",
        "search ps>ja",
        "ps>ja, generation 1",
    ]
    assert lines[0] == "search ps: 2 genes, a budget of 9 candidates"
    assert lines[2] == "search ps>ja: 1 genes"
    assert lines[4] == "search ps>ja: 1 genes, 3 of them done"
    assert "3 of 9 candidates (1 failed)" in pipe.file.getvalue().splitlines()[1]
    assert "5 candidates (1 repeated)" in pipe.file.getvalue().splitlines()[5]


def test_a_terminal_shows_the_stage(hybrid):
    console = terminal(100)
    progress = Progress(console)
    for part in hybrid:
        part.tell(progress)
    progress.close()

    screen = last_screen(console)
    assert "ps>ja" in screen
    assert "1 · 5 candidates" in screen


def test_closing_twice_or_without_a_start_is_no_error(pipe):
    progress = Progress(pipe)
    progress.close()
    progress.close()
    assert pipe.file.getvalue() == ""
