"""The table of the tasks: how rows are read, how an answer is scored, how solved examples are drawn."""

from dataclasses import dataclass

from evo_merge.tasks.jp_lmeh import rows, scoring
from evo_merge.tasks.jp_lmeh.data import Parse
from evo_merge.tasks.jp_lmeh.scoring import Scoring


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One task of the harness.

    Attributes:
        parse: Makes an example of a row.
        scoring: How it is answered and scored.
        stratified: Whether the harness draws as many solved examples of each class.
        parse_shot: Makes a solved example of a row, where that is another thing.
    """

    parse: Parse
    scoring: Scoring
    stratified: bool = False
    parse_shot: Parse | None = None


BENCHMARKS: dict[str, Benchmark] = {
    "jcommonsenseqa": Benchmark(rows.jcommonsenseqa, scoring.Choices()),
    "jnli": Benchmark(rows.jnli, scoring.Classes(), stratified=True),
    "marc_ja": Benchmark(rows.marc_ja, scoring.Classes()),
    "jsquad": Benchmark(rows.jsquad, scoring.Spans()),
    "jaqket_v2": Benchmark(rows.jaqket_v2, scoring.Spans(), parse_shot=rows.jaqket_v2_shot),
    "jaqket_closed_book": Benchmark(rows.jaqket_closed_book, scoring.Spans()),
    "xlsum_ja": Benchmark(rows.xlsum_ja, scoring.Summaries()),
    "xwinograd_ja": Benchmark(rows.xwinograd_ja, scoring.Sentences()),
    "mgsm": Benchmark(rows.mgsm, scoring.Numbers()),
    "jcola": Benchmark(rows.jcola, scoring.Classes(), stratified=True),
}
"""By the harness's name; the closed book is ours."""
