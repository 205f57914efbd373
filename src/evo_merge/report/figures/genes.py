"""How each gene moved and where it ended: the paper's Figure 3, with the way there."""

import math

import numpy as np

from evo_merge.genome import Gene
from evo_merge.report.figures.layout import Axis
from evo_merge.report.results import RunResults
from evo_merge.report.svg import Figure, circle, dots, group, line, rect, shorten, text, title

MOST_PANELS = 36
MOST_ROWS = 200  # of a table of genes
_MOST_DOTS = 10_000


def genes_figure(results: RunResults, width: float) -> Figure | None:
    """A panel a gene: its value in every candidate, the mean of each generation, and the chosen candidate's value.

    Choices have no mean, for their values have no order.
    Of more than ``MOST_PANELS`` genes, those are drawn whose chosen value is furthest from where they started.
    """
    if not results.of_stage or not results.genes:
        return None
    shown = shown_genes(results)
    columns = _columns(len(shown), 4 if width > 500 else 2)
    note = capping_rule(results)
    top = 22.0 if note else 2.0
    panel_width, panel_height = width / columns, 136.0
    body = [text(4, 12, shorten(note, width - 8, 11), "small muted")] if note else []
    every = max(1, math.ceil(len(results.of_stage) * len(shown) / _MOST_DOTS))
    for place, index in enumerate(shown):
        left = place % columns * panel_width
        body.append(_panel(results, index, left, top + place // columns * panel_height, panel_width, every))
    height = top + math.ceil(len(shown) / columns) * panel_height
    return Figure(width, height, _description(results, shown), tuple(body))


def shown_genes(results: RunResults, most: int = MOST_PANELS) -> list[int]:
    """Indices of the genes that get a panel, or a row where more fit, in the order of the genome."""
    if len(results.genes) <= most:
        return list(range(len(results.genes)))
    by_distance = sorted(range(len(results.genes)), key=lambda i: (-_distance(results, i), i))
    return sorted(by_distance[:most])


def capping_rule(results: RunResults, most: int = MOST_PANELS) -> str:
    """Which genes are shown, where not all are; otherwise empty."""
    if len(results.genes) <= most:
        return ""
    return f"The {most} of {len(results.genes):,} genes that ended furthest from where they started"


def box_text(gene: Gene) -> str:
    """Where a gene may be: ``0 to 1``, ``on or off``, ``unbounded``."""
    if gene.kind == "binary":
        return "on or off"
    if gene.kind == "choice":
        return f"whole, {gene.low:g} to {gene.high:g}"
    if math.isfinite(gene.low) and math.isfinite(gene.high):
        return f"{gene.low:g} to {gene.high:g}"
    if math.isfinite(gene.low):
        return f"{gene.low:g} or more"
    return f"{gene.high:g} or less" if math.isfinite(gene.high) else "unbounded"


def value_text(gene: Gene, value: float, written: str) -> str:
    """A value of a gene, as it is written unless it is a switch."""
    return ("on" if value > 0.5 else "off") if gene.kind == "binary" else written


def gene_bounds(results: RunResults, index: int) -> tuple[float, float]:
    """The box of a gene; what the candidates reached where it has no bound."""
    gene = results.genes[index]
    values = [float(c.genome[index]) for c in results.of_stage] or [gene.start]
    low = gene.low if math.isfinite(gene.low) else min(*values, gene.start)
    high = gene.high if math.isfinite(gene.high) else max(*values, gene.start)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _distance(results: RunResults, index: int) -> float:
    ended, gene = results.best_candidate or results.of_stage[-1], results.genes[index]
    extent = gene.high - gene.low
    return abs(float(ended.genome[index]) - gene.start) / (extent if math.isfinite(extent) else gene.span)


def _columns(n: int, most: int) -> int:
    """As many as fit, fewer where that fills every row."""
    if n <= most:
        return n
    return next((columns for columns in range(most, max(1, most // 2), -1) if n % columns == 0), most)


def _panel(results: RunResults, index: int, left: float, top: float, width: float, every: int) -> str:
    gene = results.genes[index]
    low, high = gene_bounds(results, index)
    candidates = results.of_stage
    x = Axis(0, len(candidates), left + 36, left + width - 38)
    y = Axis(low, high, top + 116, top + 28)
    values = [float(c.genome[index]) for c in candidates]
    by_generation: dict[int, list[int]] = {}
    for i, candidate in enumerate(candidates):
        by_generation.setdefault(candidate.generation, []).append(i)
    means = [
        (x(np.mean(members).item() + 0.5), y(float(np.mean([values[i] for i in members]))))
        for members in by_generation.values()
    ]
    chosen = results.best_candidate
    ended = "" if chosen is None else _valued(gene, float(chosen.genome[index]))
    is_boxed = math.isfinite(gene.low) and math.isfinite(gene.high)
    drawn = [
        title(_told(gene, ended)),
        # Without a bound on both sides there is no box to draw.
        *([rect(x.start, y.end - 4, x.end - x.start, y.start - y.end + 8, class_="panel")] if is_boxed else []),
        text(x.start, top + 16, shorten(gene.name, width - 36, 11.5), "small strong"),
        text(x.start - 6, y(high) + 4, _valued(gene, high), "small muted", "end"),
        text(x.start - 6, y(low) + 4, _valued(gene, low), "small muted", "end"),
        line([(x.start, y(gene.start)), (x.end, y(gene.start))], "axis dashed"),
        group([dots([(x(i + 0.5), y(values[i])) for i in range(0, len(values), every)], "dots")], class_="candidate"),
    ]
    if gene.kind != "choice":  # its values have no order, hence no mean
        drawn.append(line(means if len(means) > 1 else [(x.start, means[0][1]), (x.end, means[0][1])], "axis thick"))
    if chosen is not None:
        place = next(i for i, c in enumerate(candidates) if c.number == chosen.number)
        at = y(values[place])
        drawn.append(
            group(
                [
                    line([(x(place + 0.5), at), (x.end, at)], "line"),
                    circle(x(place + 0.5), at, 4.5, "ring"),
                    text(x.end + 5, at + 4, ended, "strong tinted"),
                ],
                class_="best",
            )
        )
    return group(drawn)


def _told(gene: Gene, ended: str) -> str:
    box = f"{box_text(gene)}, started at {value_text(gene, gene.start, f'{gene.start:g}')}"
    return f"{gene.name}: {box}{f'; chosen {ended}' if ended else ''}"


def _description(results: RunResults, shown: list[int]) -> str:
    chosen = results.best_candidate
    if chosen is None:
        return f"Values of {len(shown)} genes in every candidate."
    values = ", ".join(f"{results.genes[i].name} {_valued(results.genes[i], float(chosen.genome[i]))}" for i in shown)
    return f"Values of {len(shown)} genes in every candidate; the chosen candidate has {values}."


def _valued(gene: Gene, value: float) -> str:
    return value_text(gene, value, _short(value))


def _short(value: float) -> str:
    written = f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:.3g}"
    return "0" if written == "-0" else written
