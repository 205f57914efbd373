"""What a comparison writes: the table, the figures, the page."""

import csv
import io
from pathlib import Path
from xml.etree import ElementTree

import pytest

from evo_merge.report.comparison.figures.curves import bands_figure, curves_figure
from evo_merge.report.comparison.figures.scores import finals_figure
from evo_merge.report.comparison.html import render_comparison
from evo_merge.report.comparison.write import comparison_csv
from evo_merge.report.wording import ScoreFormat
from swept_runs import compared, write_swept

PERCENT = ScoreFormat(is_fraction=True)
pytestmark = pytest.mark.usefixtures("quick_commits")


def test_the_table_has_a_row_a_run(three_by_three: list[Path], tmp_path: Path) -> None:
    stopped = write_swept(tmp_path / "stopped", "de", 9, test=None)
    rows = list(csv.DictReader(io.StringIO(comparison_csv(compared(*three_by_three, stopped), tmp_path))))

    assert [row["folder"] for row in rows] == [*(folder.name for folder in three_by_three), "stopped"]
    first = rows[3]
    assert (first["group"], first["seed"], first["evaluations"], first["compared_at"]) == ("optimizer=cmaes", "0", "3", "3")
    assert [float(first[key]) for key in ("best_search_score", "test_score", "best_source_test_score")] == [0.5, 0.6, 0.2]
    assert float(first["test_low"]) < 0.6 < float(first["test_high"])
    assert (first["target"], first["evaluations_to_target"]) == ("0.3", "2")
    assert (rows[-1]["group"], rows[-1]["test_score"], rows[-1]["evaluations_to_target"]) == ("", "", "")


@pytest.mark.parametrize("n_groups", [3, 8])
@pytest.mark.parametrize("width", [880, 360])
def test_figures_draw_every_group_inside_their_frame(tmp_path: Path, n_groups: int, width: float) -> None:
    names = [f"optimizer_number_{i}" for i in range(n_groups)]
    folders = [
        write_swept(tmp_path / f"{name}{seed}", name, seed, (0.1 * seed, 0.3, 0.05 * (i + seed)), 0.1 * (i + 1))
        for i, name in enumerate(names)
        for seed in range(3)
    ]
    comparison = compared(*folders)
    curves, bands, scores = (draw(comparison, PERCENT, width) for draw in (curves_figure, bands_figure, finals_figure))

    assert curves is not None
    assert scores is not None
    assert curves.inline().count('class="line thick median') == n_groups
    assert curves.inline().count("tinted bar band") == (n_groups if n_groups <= 4 else 0)
    assert scores.inline().count("shade3 run") == 3 * n_groups
    assert (bands is None) == (n_groups <= 4)
    if bands is not None:
        assert bands.inline().count("tinted bar band") == n_groups
    for figure in filter(None, (curves, bands, scores)):
        for element in ElementTree.fromstring(figure.standalone()).iter():
            x, y = float(element.get("x", 0)), float(element.get("y", 0))
            assert -16 <= x <= figure.width + 16
            assert -16 <= y <= figure.height + 16


def test_the_page_says_names_of_runs_as_text_and_has_no_script(tmp_path: Path) -> None:
    folders = [write_swept(tmp_path / f"{i}", "<script>alert(1)</script>" if i else "random") for i in range(2)]
    page = render_comparison(compared(*folders), tmp_path)

    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "").replace("http-equiv", "")


def test_links_to_reports_are_quoted(tmp_path: Path) -> None:
    folders = [write_swept(tmp_path / name / "50% #1?", name) for name in ("cmaes", "random")]
    for folder in folders:
        (folder / "report.html").touch()
    page = render_comparison(compared(*folders), tmp_path)

    assert 'href="cmaes/50%25%20%231%3F/report.html"' in page
    assert ">cmaes/50% #1?</a>" in page
