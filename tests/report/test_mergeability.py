"""The section about the pool: what was measured before the search, in words, in a table and as two heat maps."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from evo_merge.mergeability import Mergeability, PairMeasure, SourceMeasure
from evo_merge.report.figures.mergeability import mergeability_figure
from evo_merge.report.results import read_results
from evo_merge.report.write import write_report
from evo_merge.study import Study, opened

MakeRun = Callable[..., Path]
SVG = "{http://www.w3.org/2000/svg}"


def measured(*names: str, has_base: bool = True, cosine: float | None = 0.5, distance: float = 0.1) -> Mergeability:
    """Sources that are all alike."""
    of_base = (2.0, 0.2, 1.0, 0.98) if has_base else (None,) * 4
    of_vectors = (cosine, cosine, None if cosine is None else 0.31, 0.1) if has_base else (None,) * 4
    return Mergeability(
        base="builtin:tiny_ja_math/base" if has_base else None,
        base_norm=10.0 if has_base else None,
        n_weights=1_000,
        sources=tuple(SourceMeasure(name, 10.0, *of_base) for name in names),
        pairs=tuple(PairMeasure(first, second, distance, 0.99, *of_vectors) for first, second in combinations(names, 2)),
    )


def with_mergeability(folder: Path, found: Mergeability) -> Path:
    with opened(Study.resume(folder)) as study:
        study.set("mergeability", found.to_json())
    return folder


def page_of(folder: Path) -> str:
    with opened(Study.read(folder)) as study:
        write_report(folder, study)
    return (folder / "report.html").read_text(encoding="utf-8")


def drawn(folder: Path, width: float) -> ElementTree.Element:
    with opened(Study.read(folder)) as study:
        figure = mergeability_figure(read_results(study), width)
    assert figure is not None
    root = ElementTree.fromstring(figure.standalone())
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x", "nan")) <= width
        assert 0 <= float(text.get("y", "nan")) <= figure.height
    return root


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def test_a_run_that_was_not_measured_has_no_such_section(make_run: MakeRun) -> None:
    folder = make_run()
    page = page_of(folder)
    assert "How mergeable the sources are" not in page
    assert not (folder / "figures" / "mergeability.svg").exists()


def test_the_section_has_the_findings_the_table_and_the_figure(make_run: MakeRun) -> None:
    folder = with_mergeability(make_run(), measured("ja", "math_a", "math_b"))
    page = page_of(folder)
    section = page.split("How mergeable the sources are")[1].split("</section>")[0]
    assert "<li>Nothing here speaks against merging.</li>" in section
    for shown in ("pull 31 %", "descends from the base"):  # by the map and by the table
        assert shown not in section
    assert section.count("<svg") == 2
    assert '<td class="model">ja</td><td>yes</td><td class="n">0.2</td><td class="n">100.0 %</td>' in section
    assert "(Hu et al., 2024): 0.50. It is 1 where all changed the base in the same direction, and 0 where" in section
    assert (folder / "figures" / "mergeability.svg").is_file()


def test_what_speaks_against_the_pool_stands_out_and_is_escaped(make_run: MakeRun) -> None:
    page = page_of(with_mergeability(make_run(), measured("<b>a", "b", cosine=-0.6)))
    section = page.split("How mergeable the sources are")[1].split("</section>")[0]
    assert "<li><strong>&#39;&lt;b&gt;a&#39; and &#39;b&#39; pull 31 %" in section
    assert "<b>a" not in page


def test_without_a_base_the_weights_are_shown(make_run: MakeRun) -> None:
    folder = with_mergeability(make_run(), measured("a", "b", has_base=False))
    section = page_of(folder).split("How mergeable the sources are")[1].split("</section>")[0]
    assert "The pool has no base, so there are no task vectors" in section
    assert "Without a base no task vectors are defined" not in section
    assert "&#39;a&#39; and &#39;b&#39; have an ancestor in common." in section
    assert "<table>" not in section
    assert texts(drawn(folder, 880.0)).count("0.99") == 2
    assert texts(drawn(folder, 880.0)).count("0.10") == 2


@pytest.mark.parametrize("width", [880.0, 360.0])
@pytest.mark.parametrize("n", [2, 9, 24])
def test_each_pair_has_a_cell_in_both_maps(make_run: MakeRun, n: int, width: float) -> None:
    names = [f"s{i}" for i in range(n)]
    root = drawn(with_mergeability(make_run(), measured(*names)), width)
    tips = [tip.text or "" for tip in root.iter(f"{SVG}title")]
    assert len(tips) == 2 * n * (n - 1)
    assert f"{names[0]} and {names[1]}, opposite signs, %: 31" in tips
    assert ("0.50" in texts(root)) is (n < 24)  # smaller cells have no room for it


def test_a_pair_without_a_cosine_is_a_dash(make_run: MakeRun) -> None:
    root = drawn(with_mergeability(make_run(), measured("a", "b", cosine=None)), 880.0)
    assert texts(root).count("–") == 4


def test_one_source_has_nothing_to_draw(make_run: MakeRun) -> None:
    page = page_of(with_mergeability(make_run(), measured("alone")))
    section = page.split("How mergeable the sources are")[1].split("</section>")[0]
    assert "<svg" not in section
    assert '<td class="model">alone</td><td>yes</td>' in section
