"""The table of docs/optimizers.md, row by row, against what the optimizers do."""

from pathlib import Path

import pytest

from evo_merge.genome import Gene
from optimizer_cases import NAMES, build, class_of, each_name, scored

DOCUMENT = (Path(__file__).parents[2] / "docs" / "optimizers.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in DOCUMENT.partition("\n## ")[0].splitlines()
    if line.startswith("| `") and (cells := [cell.strip() for cell in line.strip("|").split("|")])[0] != "`optimizer=`"
}


def unit(dim: int) -> tuple[Gene, ...]:
    return tuple(Gene(f"g{i}", -1.0, 1.0, 0.0) for i in range(dim))


def test_every_optimizer_has_a_row() -> None:
    assert sorted(ROWS) == NAMES


@each_name
def test_kinds_boxes_and_objectives_are_as_documented(name: str) -> None:
    kinds, without_box, objectives, *_ = ROWS[name]
    assert tuple(kinds.split(", ")) == class_of(name).kinds
    assert {"free": False, "span": True}[without_box] == class_of(name).needs_box
    assert {"one": False, "several": True}[objectives] == class_of(name).takes_several


@each_name
@pytest.mark.parametrize(("dim", "by_formula"), [(1, 4), (2, 6), (6, 9), (20, 12)])
def test_generations_have_the_documented_size(name: str, dim: int, by_formula: int) -> None:
    optimizer, size = build(name, unit(dim)), ROWS[name][3]
    for _ in range(3):
        genomes = optimizer.ask()
        assert len(genomes) == (by_formula if size.startswith("4 + floor(3 ln n)") else int(size))
        optimizer.tell(genomes, [scored(float(row[0])) for row in genomes])
