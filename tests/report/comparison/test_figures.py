"""What the figures of a comparison draw lies where its axes say: read back by the ticks that a reader has."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from evo_merge.report.comparison.figures.curves import curves_figure
from evo_merge.report.comparison.figures.scores import finals_figure
from evo_merge.report.comparison.values import FairComparison
from evo_merge.report.svg import Figure
from evo_merge.report.wording import ScoreFormat
from swept_runs import compared, write_swept

PERCENT = ScoreFormat(is_fraction=True)
PIXEL = 0.02  # coordinates are written to a hundredth
RUNS = {
    "cmaes": [((0.1, 0.5, 0.2), 0.5), ((0.2, 0.3, 0.3), 0.6), ((0.3, 0.1, 0.9), 0.9)],
    "random": [((0.1, 0.2, 0.2), 0.3), ((0.2, 0.2, 0.3), 0.3), ((0.1, 0.1, 0.4), 0.4)],
}
BEST_SO_FAR = {  # by hand, a row a seed
    "cmaes": [(0.1, 0.5, 0.5), (0.2, 0.3, 0.3), (0.3, 0.3, 0.9)],
    "random": [(0.1, 0.2, 0.2), (0.2, 0.2, 0.3), (0.1, 0.1, 0.4)],
}
Pixel = Callable[[float], float]
pytestmark = pytest.mark.usefixtures("quick_commits")


@pytest.fixture
def comparison(tmp_path: Path) -> FairComparison:
    return compared(
        *(write_swept(tmp_path / f"{n}{i}", n, i, *scores) for n, seeds in RUNS.items() for i, scores in enumerate(seeds))
    )


def drawn(figure: Figure | None) -> ElementTree.Element:
    assert figure is not None
    return ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", figure.inline()))


def points(path: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path.get("d", ""))]


def scale(ticks: list[tuple[float, float]]) -> Pixel:
    """The pixel of a value, by the first and the last tick; all between must agree."""
    (first, begin), (last, end) = ticks[0], ticks[-1]
    assert last > first

    def pixel(value: float) -> float:
        return begin + (value - first) / (last - first) * (end - begin)

    assert all(pixel(value) == pytest.approx(at, abs=PIXEL) for value, at in ticks)
    return pixel


def percent_ticks(root: ElementTree.Element, place: int) -> list[tuple[float, float]]:
    """Values of the grid lines, from the label behind each, and where they are drawn."""
    elements = list(root)
    lines = [i for i, element in enumerate(elements) if element.get("class") == "grid"]
    return [
        (float((elements[i + 1].text or "").split("\N{NO-BREAK SPACE}")[0]) / 100, points(elements[i])[0][place]) for i in lines
    ]


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [element for element in root.iter() if element.get("class") == name]


@pytest.mark.parametrize("width", [880, 360])
def test_curves_and_bands_are_quartiles_of_the_best_so_far(comparison: FairComparison, width: float) -> None:
    root = drawn(curves_figure(comparison, PERCENT, width))
    y = scale(percent_ticks(root, 1))
    along = [element for element in root if element.tag == "text" and element.get("text-anchor") == "middle"]
    x = scale([(float(element.text or ""), float(element.get("x", ""))) for element in along])

    for place, name in enumerate(("cmaes", "random")):
        coloured = [group for group in root if group.get("class") == f"model{place}"]
        (median,) = [path for group in coloured for path in of_class(group, "line thick median")]
        (band,) = [path for group in coloured for path in of_class(group, "tinted bar band")]
        (dot,) = [circle for group in coloured for circle in of_class(group, "fill")]
        low, middle, high = np.quantile(BEST_SO_FAR[name], [0.25, 0.5, 0.75], axis=0)
        expected = {(x(i + 1), y(value)) for i, value in enumerate(middle)}
        # A score holds until the evaluation that changes it: every corner is a value, or the one before it.
        expected_corners = expected | {(x(i + 2), y(value)) for i, value in enumerate(middle[:-1])}
        assert_same_points(points(median), expected_corners)
        edges = {(x(i + 1), y(value)) for side in (low, high) for i, value in enumerate(side)}
        edges |= {(x(i + 2), y(value)) for side in (low, high) for i, value in enumerate(side[:-1])}
        assert_same_points(points(band), edges)
        assert float(dot.get("cy", "")) == pytest.approx(y(middle[-1]), abs=PIXEL)  # far enough apart not to be moved
    (target,) = of_class(root, "line dashed")
    assert [at for _, at in points(target)] == [pytest.approx(y(0.3), abs=PIXEL)] * 2  # the median final one of random


@pytest.mark.parametrize("width", [880, 360])
def test_dots_rings_and_intervals_are_where_the_scores_are(comparison: FairComparison, width: float) -> None:
    root = drawn(finals_figure(comparison, PERCENT, width))
    x = scale(percent_ticks(root, 0))
    rows = []

    for place, name in enumerate(("cmaes", "random")):
        (row,) = [group for group in root if group.get("class") == f"model{place}"]
        tests = [score for _, score in RUNS[name]]
        dots = of_class(row, "tinted shade3 run")
        assert [float(dot.get("cx", "")) for dot in dots] == [pytest.approx(x(score), abs=PIXEL) for score in tests]
        (ring,) = of_class(row, "ring")
        assert float(ring.get("cx", "")) == pytest.approx(x(float(np.mean(tests))), abs=PIXEL)
        (bar,) = of_class(row, "line thick")
        student = stats.ttest_1samp(tests, 0).confidence_interval(0.95)
        ends = [at for at, _ in points(bar)]
        assert ends == [pytest.approx(x(max(0.0, student.low)), abs=PIXEL), pytest.approx(x(min(1.0, student.high)), abs=PIXEL)]
        assert {at for _, at in points(bar)} == {float(ring.get("cy", ""))}
        rows.append({float(dot.get("cy", "")) for dot in dots})
    assert len(rows[0]) == len(rows[1]) == 1  # a row a group
    assert max(rows[0]) < min(rows[1])  # the best first
    (source,) = [group for group in root if group.get("class") == "source" and of_class(group, "line dashed")]
    assert [at for at, _ in points(of_class(source, "line dashed")[0])] == [pytest.approx(x(0.2), abs=PIXEL)] * 2


def assert_same_points(found: list[tuple[float, float]], expected: set[tuple[float, float]]) -> None:
    """Every point that is drawn is expected, and every expected one is drawn, where the line turns there or not."""

    def is_near(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return abs(a[0] - b[0]) < PIXEL and abs(a[1] - b[1]) < PIXEL

    assert [point for point in found if not any(is_near(point, other) for other in expected)] == []
    corners = [point for point in expected if not any(is_near(point, other) for other in found)]
    # A point in the middle of a level stretch is not written out.
    assert all(any(abs(y - at) < PIXEL for _, at in found) for _, y in corners)
