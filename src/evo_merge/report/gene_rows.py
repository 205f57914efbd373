"""The table of the genes."""

from collections.abc import Sequence
from dataclasses import dataclass

from evo_merge.genome import Gene
from evo_merge.report.figures.genes import MOST_ROWS, box_text, shown_genes, value_text
from evo_merge.report.results import RunResults
from evo_merge.report.wording import NBSP


@dataclass(frozen=True, slots=True)
class GeneRow:
    """A gene as the table of the page has it."""

    name: str
    box: str
    start: str
    last: str
    chosen: str


def gene_rows(results: RunResults) -> list[GeneRow]:
    """The genes that the table has room for: where each may be, where it began, and where the last generation had it."""
    chosen = results.best_candidate
    last = max((c.generation for c in results.of_stage), default=0)
    final = [c.genome for c in results.of_stage if c.generation == last]
    return [
        GeneRow(
            name=results.genes[i].name,
            box=box_text(results.genes[i]),
            start=value_text(results.genes[i], results.genes[i].start, f"{results.genes[i].start:.3g}"),
            last=_typical(results.genes[i], [float(genome[i]) for genome in final]),
            chosen="" if chosen is None else _typical(results.genes[i], [float(chosen.genome[i])]),
        )
        for i in (shown_genes(results, MOST_ROWS) if final else ())
    ]


def _typical(gene: Gene, values: Sequence[float]) -> str:
    """The mean; of a choice, whose values have no order, the most frequent, and of equally frequent ones the least.

    Of a switch it is how often it is on.
    """
    if gene.kind == "choice":
        return f"{min(values, key=lambda value: (-values.count(value), value)):g}"
    mean = sum(values) / len(values)
    if gene.kind == "binary" and 0 < mean < 1:
        return f"on in {100 * mean:.0f}{NBSP}%"
    return value_text(gene, mean, f"{mean:.3f}")
