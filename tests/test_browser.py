"""A real sweep, its reports and its comparison, opened in a real browser: drawn, silent, and alone."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[dev]' brings playwright")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no chromium on this machine")

OPTIMIZERS, SEEDS = ("cmaes", "nevergrad", "nsga2", "random"), (1, 2)
SMALL = ("merge=linear", "models.use=[ja,math_a]", "task.limit.search=6", "task.limit.test=6", "task.max_new_tokens=8",
         "optimizer.population_size=4", "budget.evaluations=8")  # fmt: skip
WIDTHS = {"desk": 1000, "phone": 390}


@dataclass
class Opened:
    """A page, and everything it said and asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def figures(self) -> list[Any]:
        """Those that are shown: each is on the page in two widths, of which CSS hides one."""
        return [figure for figure in self.page.locator("svg.figure").all() if figure.is_visible()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox"]
        )  # a container has no namespaces for one
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    pages = []

    def opened(file: Path, width: int = WIDTHS["desk"]) -> Opened:
        page = browser.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        found = Opened(page)
        page.on("console", lambda message: found.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: found.said.append(str(error)))
        page.on("request", lambda request: found.asked.append(request.url))
        page.goto(file.as_uri(), wait_until="networkidle")
        return found

    yield opened
    for page in pages:
        page.close()


def run(folder: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", module, *words], cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``--multirun`` of four optimizers and two seeds, then the report command."""
    folder = tmp_path_factory.mktemp("swept")
    swept = [f"optimizer={','.join(OPTIMIZERS)}", f"seed={','.join(map(str, SEEDS))}"]
    ended = run(folder, "evo_merge", "--multirun", *swept, *SMALL, "tracker=none", "hydra.sweep.dir=sweep")
    assert ended.returncode == 0, ended.stderr
    ended = run(folder, "evo_merge.report", "sweep")
    assert ended.returncode == 0, ended.stderr
    assert "sweep/comparison.html" in ended.stdout
    ended = run(folder, "evo_merge.answers", "sweep/0", "split=search", "who=best,sources,baselines,0,1")
    assert ended.returncode == 0, ended.stderr
    return folder / "sweep"


def assert_drawn(opened: Opened, width: int) -> None:
    """Every figure that is shown has a size, and something in it that has one, inside the page."""
    for figure in opened.figures():
        box = figure.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 40
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        sizes = [mark.bounding_box() for mark in figure.locator("path, circle, rect").all()[:20]]
        assert any(size is not None and size["width"] + size["height"] > 0 for size in sizes)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_comparison_is_drawn_and_says_and_asks_nothing(sweep: Path, open_page: Any, width: int) -> None:
    opened = open_page(sweep / "comparison.html", width)

    assert opened.said == []
    assert opened.asked == [(sweep / "comparison.html").as_uri()]
    curves, tests = opened.figures()
    assert_drawn(opened, width)
    lines = curves.locator("path.median").all()
    assert len(lines) == len(OPTIMIZERS)
    assert all(line.bounding_box()["width"] > 100 for line in lines)
    assert curves.locator("path.band").count() == len(OPTIMIZERS)
    assert tests.locator("circle.run").count() == len(OPTIMIZERS) * len(SEEDS)
    assert opened.page.locator("table").last.locator("tbody tr").count() == len(OPTIMIZERS) * len(SEEDS)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width  # only tables scroll sideways


def test_the_comparison_leads_to_the_report_of_each_run(sweep: Path, open_page: Any) -> None:
    opened = open_page(sweep / "comparison.html")
    opened.page.get_by_role("link", name="7", exact=True).click()

    assert opened.page.url == (sweep / "7" / "report.html").as_uri()
    assert opened.page.locator("h1").inner_text() == "linear merge, evolved by random, on tiny_ja_math"


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_report_is_drawn_and_says_and_asks_nothing(sweep: Path, open_page: Any, width: int) -> None:
    opened = open_page(sweep / "0" / "report.html", width)

    assert opened.said == []
    assert opened.asked == [(sweep / "0" / "report.html").as_uri()]
    assert len(opened.figures()) >= 4  # scores, search, genes, answers
    assert_drawn(opened, width)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_answer_sheet_is_drawn_and_says_and_asks_nothing(sweep: Path, open_page: Any, width: int) -> None:
    opened = open_page(sweep / "0" / "answers" / "answers.html", width)

    assert opened.said == []
    assert opened.asked == [(sweep / "0" / "answers" / "answers.html").as_uri()]
    assert len(opened.figures()) == 1
    assert_drawn(opened, width)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width  # only tables scroll sideways


def test_what_a_page_says_and_asks_for_would_be_seen(tmp_path: Path, open_page: Any) -> None:
    page = tmp_path / "page.html"
    page.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('heard'); lost()</script>", encoding="utf-8")
    opened = open_page(page)

    assert "error: heard" in opened.said
    assert any("lost is not defined" in said for said in opened.said)
    assert "http://127.0.0.1:9/x.png" in opened.asked
