"""The page: well-formed, complete without a network, and safe against what models say."""

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from evo_merge.report.svg import clean
from evo_merge.report.write import write_report
from evo_merge.study import Entrant, Study, opened

MakeRun = Callable[..., Path]
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Outline(HTMLParser):
    """Checks that tags close in order, and gathers what a reader sees and what a browser would load."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{tag} {key}={value}" for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        assert not [key for key, _ in attrs if key.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.text.append(data)


def report_of(folder: Path) -> str:
    with opened(Study.read(folder)) as study:
        write_report(folder, study)
    return (folder / "report.html").read_text(encoding="utf-8")


def outline(page: str) -> Outline:
    found = Outline()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


def words(page: str) -> str:
    return " ".join("".join(outline(page).text).replace("\N{NO-BREAK SPACE}", " ").split())


def test_a_finished_run_is_told_in_full(make_run: MakeRun) -> None:
    page = report_of(make_run())
    said = words(page)
    for heading in (
        "Final scores on the test split",
        "How the search went",
        "How each gene moved and where it ended",
        "The answer sheet",
        "Sample answers",
        "The recipe",
        "How to read this",
        "Failed candidates",
    ):
        assert heading in said
    assert "cmaes tried 18 candidates" in said
    assert "above the best source, ja" in said
    assert "became NaN" in said
    assert "kind: parameter_space" in said
    assert "python -m evo_merge.build recipe=" in said
    assert "note: <config>" in said
    assert page.count("<svg") == 8  # four figures, each for a desk and for a phone


def test_what_models_say_is_only_text(make_run: MakeRun) -> None:
    page = report_of(make_run())
    assert "script" not in outline(page).tags
    assert "<script>alert('x')</script>" in words(page)
    assert "&lt;script&gt;alert" in page
    assert "\x00" not in page
    assert "\x1b" not in page


def test_the_page_loads_nothing(make_run: MakeRun) -> None:
    page = report_of(make_run())
    assert outline(page).loads == []
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, re.S)) + "".join(re.findall(r'style="([^"]*)"', page))
    assert "@import" not in styles
    assert "url(" not in styles
    assert "default-src 'none'" in page


def test_a_merge_that_gained_nothing_is_not_praised(make_run: MakeRun) -> None:
    said = words(report_of(make_run(best_rate=0.05)))
    assert "The evolved merge does not clearly differ from the best source; it is worse than the un-optimised merge" in said
    assert "points below the un-optimised merge" in said


def test_an_unfinished_run_says_so(make_run: MakeRun) -> None:
    said = words(report_of(make_run(is_finished=False)))
    assert "This run is not finished: no merge has been chosen yet, and 4 proposed candidates are not scored." in said
    assert "Final scores" not in said
    assert "best candidate so far" in said


def test_a_run_killed_while_the_test_split_is_asked_shows_what_is_there(make_run: MakeRun) -> None:
    folder = make_run()
    with opened(Study.resume(folder)) as study:
        study.drop_entrant("best")
        untested = replace(study.candidates()[0].recipe, seed=99)
        study.record_entrant(Entrant("best", "best", untested))
    said = words(report_of(folder))
    assert "no test score of it" in said
    assert "Final scores on the test split" in said
    assert "a source solves it" in said


def test_a_run_without_a_single_candidate_gives_a_page(tmp_path: Path) -> None:
    study = Study.create(tmp_path)
    study.close()
    assert "This run is not finished" in words(report_of(tmp_path))


def test_graded_scores_are_not_called_percent(make_run: MakeRun) -> None:
    said = words(report_of(make_run(is_graded=True)))
    assert re.search(r"the evolved merge scores \d\.\d+ \(95 % interval \d", said)
    assert "furthest ahead" in said


@pytest.mark.parametrize("text", ["\ud800", "\ufffe"])
def test_characters_that_no_file_can_hold_are_left_out(text: str) -> None:
    assert clean(f"a{text}b") == "ab"
