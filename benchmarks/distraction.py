"""The distraction test: what useless sources in the pool cost a search: ``python benchmarks/distraction.py``.

The embedded family's pool gets 0, 2, 4 and 8 useless sources (``distractors.py``). A plain search has a weight and a density
for each of them; the other search has also a gene that leaves a source out (``merge.select_sources``). Both have the same
budget and the same seeds. Prints one table, and writes its numbers and a figure; runs that are finished are not run again.
"""

import argparse
import csv
import json
import math
import os
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from distractors import useless_sources

from evo_merge.report.figures.layout import Axis, legend
from evo_merge.report.svg import Figure, circle, group, line, text, ticks, title

FOLDER = Path("outputs/benchmarks/distraction")
USEFUL = ("ja", "math_a", "math_b")
COUNTS = (0, 2, 4, 8)
PLAIN, SELECTING = "plain", "on/off genes"
START_PROBABILITY = 0.5  # that a source is on in the first generation: nothing is known of any
MAY_LOSE = 0.5  # of what the plain search loses
SURE = 2.0  # standard errors from which a loss counts


@dataclass(frozen=True, slots=True)
class Search:
    """One search: how many useless sources it has, of which kind it is, and its seed."""

    n_useless: int
    kind: str
    seed: int


Scores = Mapping[Search, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of search at one number of useless sources.

    Attributes:
        n_useless: Useless sources in the pool.
        kind: ``PLAIN`` or ``SELECTING``.
        mean: Of the test scores of the best merges, over the seeds.
        error: Standard error of the mean.
        loss: The mean without useless sources minus this one.
        loss_error: Standard error of the loss, both means being measured.
    """

    n_useless: int
    kind: str
    mean: float
    error: float
    loss: float
    loss_error: float


# --- the searches ----------------------------------------------------------------------------------------------------


def words(search: Search, folder: Path, useless: Mapping[str, Path], options: argparse.Namespace) -> list[str]:
    """The command of a search."""
    sources = [f"{{name: {name}, model: builtin:tiny_ja_math/{name}}}" for name in USEFUL]
    sources += [f"{{name: {name}, model: '{path.resolve()}'}}" for name, path in list(useless.items())[: search.n_useless]]
    plain = ["merge.select_sources=false", f"optimizer={options.plain}"]
    selecting = [
        "merge.select_sources=true",
        f"optimizer={options.selecting}",
        f"optimizer.start_probability={START_PROBABILITY}",
    ]
    return [
        "merge=dare_ties",
        *(selecting if search.kind == SELECTING else plain),
        f"models.sources=[{', '.join(sources)}]",
        f"budget.evaluations={options.budget}",
        f"seed={search.seed}",
        "tracker=none",
        f"hydra.run.dir={folder}",
        *options.options,
    ]


def score_of(search: Search, useless: Mapping[str, Path], options: argparse.Namespace) -> float:
    """Score of the best merge on the test problems; nan of a search that failed."""
    kind = "selecting" if search.kind == SELECTING else "plain"
    folder = options.folder / "runs" / f"{kind}-{search.n_useless}-{search.seed}"
    asked, finished = words(search, folder, useless, options), folder / "finished.json"
    if not finished.exists() or json.loads(finished.read_text(encoding="utf-8")) != asked:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped, or that was another one
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-m", "evo_merge", *asked], env=environment, capture_output=True, text=True)
        if done.returncode:
            note(f"python -m evo_merge {shlex.join(asked)}\n{done.stderr}")
            return math.nan
        finished.write_text(json.dumps(asked), encoding="utf-8")
    best = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["test"]["best"]
    mixed = [source["name"] for source in best["recipe"]["sources"]]
    note(f"{kind} {search.n_useless} seed {search.seed}: {best['score']:.3f} with {', '.join(mixed)}")
    return float(best["score"])


def note(text_: str) -> None:
    """What goes on, beside the table."""
    print(text_, file=sys.stderr, flush=True)


# --- what came out ---------------------------------------------------------------------------------------------------


def rows_of(scores: Scores) -> list[Row]:
    """Means and losses; one row a number of useless sources and a kind."""
    searches = sorted({(search.n_useless, search.kind) for search in scores}, key=lambda key: (key[0], key[1] != PLAIN))
    measured = {key: _mean([scores[s] for s in scores if (s.n_useless, s.kind) == key]) for key in searches}
    rows = []
    for (n_useless, kind), (mean, error) in measured.items():
        without, error_without = measured[0, kind]
        loss_error = math.hypot(error, error_without) if n_useless else 0.0
        rows.append(Row(n_useless, kind, mean, error, without - mean, loss_error))
    return rows


def _mean(scores: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error; nan for a single score."""
    error = statistics.stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan
    return statistics.fmean(scores), error


def verdict(plain: Row, selecting: Row) -> str:
    """Whether on/off genes lose at most half of what the plain search loses, where that is a loss at all.

    One seed has no standard error, and then nobody knows.
    """
    if math.isnan(plain.loss_error):
        return "unknown"
    if not plain.loss > SURE * plain.loss_error:
        return "no sure loss"
    return "holds" if selecting.loss <= MAY_LOSE * plain.loss else "does not hold"


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of Markdown, in points of a hundred."""
    yield f"| useless sources | {PLAIN} | loss | {SELECTING} | loss | at most half of the loss |"
    yield "|---|---|---|---|---|---|"
    by_key = {(row.n_useless, row.kind): row for row in rows}
    for n_useless in sorted({row.n_useless for row in rows}):
        pair = [by_key.get((n_useless, kind)) for kind in (PLAIN, SELECTING)]
        cells = [cell for row in pair for cell in _cells(row)]
        plain, selecting = pair
        told = verdict(plain, selecting) if n_useless and plain and selecting else ""
        yield f"| {n_useless} | {' | '.join(cells)} | {told} |"


def _cells(row: Row | None) -> tuple[str, str]:
    if row is None:
        return "", ""
    return f"{_points(row.mean, row.error)}", _points(row.loss, row.loss_error) if row.n_useless else ""


def _points(value: float, error: float) -> str:
    return f"{100 * value:.1f}" if math.isnan(error) else f"{100 * value:.1f} ± {100 * error:.1f}"


def write_csv(path: Path, scores: Scores) -> None:
    """One line a search."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("useless_sources", "kind", "seed", "test_score"))
        writer.writerows((search.n_useless, search.kind, search.seed, score) for search, score in scores.items())


def figure(rows: Sequence[Row], scores: Scores) -> Figure:
    """Mean test score by the number of useless sources: a line a kind with its standard errors, a faint dot a search."""
    width, height = 560.0, 320.0
    counts = sorted({row.n_useless for row in rows})
    x, y = Axis(0, max(counts[-1], 1), 56, width - 24), Axis(0, 1, height - 44, 40)
    colours = {PLAIN: "source", SELECTING: "best"}
    kinds = [kind for kind in colours if any(row.kind == kind for row in rows)]
    body, _ = legend([(colours[kind], "line", kind) for kind in kinds], 56, 6, width - 80)
    for score in ticks(0, 1, 5):
        body += [
            line([(x.start, y(score)), (x.end, y(score))], "grid"),
            text(x.start - 8, y(score) + 4, f"{100 * score:.0f} %", "small muted", "end"),
        ]
    body += [text(x(count), y.start + 18, str(count), "small muted", "middle") for count in counts]
    body.append(text((x.start + x.end) / 2, y.start + 36, "useless sources beside three useful ones", "small muted", "middle"))
    for kind in kinds:
        side = -5.0 if kind == PLAIN else 5.0  # so that equal values do not hide each other
        own = [row for row in rows if row.kind == kind]
        drawn = [line([(x(row.n_useless) + side, y(row.mean)) for row in own], "line thick")]
        drawn += [
            circle(x(s.n_useless) + side, y(score), 2.5, "fill", title(f"{kind}, seed {s.seed}: {score:.3f}"), opacity=0.35)
            for s, score in scores.items()
            if s.kind == kind
        ]
        for row in own:
            at, ends = x(row.n_useless) + side, (row.mean - row.error, row.mean + row.error)
            if not math.isnan(row.error):
                drawn.append(line([(at, y(end)) for end in ends], "line thick"))
            drawn.append(circle(at, y(row.mean), 4.5, "ring", title(f"{kind}: {_points(row.mean, row.error)} %")))
        body.append(group(drawn, class_=colours[kind]))
    told = "; ".join(f"{row.kind}, {row.n_useless} useless: {_points(row.mean, row.error)} %" for row in rows)
    return Figure(width, height, f"Mean test score with standard error. {told}.", tuple(body))


# --- the command -----------------------------------------------------------------------------------------------------


def main() -> int:
    """Run what has not been run, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS, help="useless sources; 0, against which losses are")
    parser.add_argument("--seeds", type=int, nargs="*", default=range(11, 21), help="settings were chosen by seeds 1 and 2")
    parser.add_argument("--kinds", nargs="*", choices=(PLAIN, SELECTING), default=(PLAIN, SELECTING))
    parser.add_argument("--budget", type=int, default=180, help="candidates of every search")
    parser.add_argument("--plain", default="cmaes", help="optimizer of the plain search")
    parser.add_argument("--selecting", default="catcma", help="its optimizer with on/off genes: catcma or cmaes_margin")
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time, on a thread each")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where models, runs, table and figure go")
    parser.add_argument("--options", nargs="*", default=[], help="of all searches, for example task.limit.search=100")
    options = parser.parse_args()
    useless = useless_sources(options.folder / "models", note)
    if (most := max(options.counts)) > len(useless):
        parser.error(f"--counts: there are {len(useless)} useless sources, not {most}")
    counts = sorted({0, *options.counts})
    searches = [Search(n, kind, seed) for seed in options.seeds for n in counts for kind in options.kinds]
    with ThreadPoolExecutor(options.jobs) as pool:
        found = pool.map(lambda search: score_of(search, useless, options), searches)
        scores = dict(zip(searches, found, strict=True))
    if any(map(math.isnan, scores.values())):
        note("not all searches ended; the same command runs those again, and only those")
        return 1
    rows = rows_of(scores)
    write_csv(options.folder / "distraction.csv", scores)
    (options.folder / "distraction.svg").write_text(figure(rows, scores).standalone(), encoding="utf-8")
    for told in table(rows):
        print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
