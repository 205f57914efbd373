"""The run's memory: one SQLite file with every candidate, recipe, score and completion, and the time spent.

Everything is written in a transaction of its own before anyone is told of it, so that a killed run loses only the candidate in
flight. Resuming needs nothing else: the same loop runs again with a fresh optimizer of the same seed, proposes the same
candidates, and finds their evaluations here. The file is plain SQL, JSON and YAML, and genomes are the bytes of little-endian
doubles; it holds no pickled object.
"""

import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from evo_merge.errors import StudyError
from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.evaluation.cost import Cost
from evo_merge.fingerprints import is_same
from evo_merge.genome import Genome
from evo_merge.recipe import Recipe, from_yaml, recipe_hash, to_yaml
from evo_merge.study_file import created, read_only, resumed
from evo_merge.tasks.base import Example, Portion

_DOUBLE = "<f8"


@dataclass(frozen=True, slots=True)
class Entrant:
    """A model outside the search that is scored beside it.

    Attributes:
        role: ``source``, ``unoptimised`` (every gene at its start), ``baseline`` (an un-tuned merge by another method),
            ``stage`` (the best of an earlier stage), ``best`` (what the search chose), ``front`` (another member of the Pareto
            front) or ``ablation`` (the best without something that was evolved).
    """

    role: str
    name: str
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class StoredCandidate:
    """A proposed candidate; its evaluation is found by its recipe and portion.

    Attributes:
        number: Counts the candidates of the run from 0.
        stage: Which search of the run it belongs to; empty where there is only one.
        generation: Counts the stage's rounds of ask and tell from 0.
        genome: ``(dim,)``.
        recipe: Decoded from it.
        portion: Key of what it is to be asked.
        asked: Key of what it was asked: less than that, where a race stopped it.
    """

    number: int
    stage: str
    generation: int
    genome: Genome
    recipe: Recipe
    portion: str
    asked: str

    @property
    def is_stopped(self) -> bool:
        """Whether a race stopped it."""
        return self.asked != self.portion


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate without its genome and recipe, which are slow to read where there are thousands.

    Attributes:
        number: Of the candidate, like the stage, generation and portion.
        recipe: Its hash.
        is_evaluated: Whether the recipe was evaluated on the portion, or as much of it as a race let it be.
    """

    number: int
    stage: str
    generation: int
    portion: str
    recipe: str
    is_evaluated: bool


class Study:
    """The record of one run. Use ``Study.create``, ``Study.resume`` or ``Study.read``."""

    def __init__(self, connection: sqlite3.Connection, lock: FileLock | None) -> None:
        self._db = connection
        self._lock = lock
        self._opened = time.monotonic()
        self._seconds_before = float(self.get("seconds") or 0.0)

    @classmethod
    def create(cls, folder: Path) -> "Study":
        """Start the record of a new run; raises ``StudyError`` where the folder holds one already."""
        return cls(*created(folder))

    @classmethod
    def resume(cls, folder: Path) -> "Study":
        """Continue the record of a run; raises ``StudyError`` where there is none or another process writes to it."""
        return cls(*resumed(folder))

    @classmethod
    def read(cls, folder: Path) -> "Study":
        """Look at the record of a run, finished or not, without writing to it."""
        return cls(read_only(folder), None)

    def close(self) -> None:
        """Keep the time spent, and let others in."""
        if self._lock is not None:
            with self._db:
                self._keep_time()
        self._db.close()
        if self._lock is not None:
            self._lock.release()

    # -- numbers of the run ------------------------------------------------------------------------------------------------

    def get(self, key: str) -> str | None:
        """A value kept under a name, or ``None``."""
        row = self._db.execute("SELECT value FROM run WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set(self, key: str, value: str) -> None:
        """Keep a value under a name."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (key, value))

    def record_fingerprints(self, fingerprints: Mapping[str, str]) -> None:
        """Keep what tells the models' weights from others; raises ``StudyError`` where a resumed run has other weights."""
        known = self.fingerprints
        changed = [name for name, value in fingerprints.items() if known and not is_same(known.get(name), value)]
        if changed:
            raise StudyError(f"the weights of '{changed[0]}' changed since the run began; restore them, or start a new run")
        self.set("fingerprints", json.dumps(fingerprints))

    @property
    def fingerprints(self) -> dict[str, str]:
        """What was kept of the models' weights; empty before."""
        return dict(json.loads(self.get("fingerprints") or "{}"))

    def record_choice(self, number: int) -> None:
        """Keep the number of the chosen candidate, and that the test split was used for it."""
        choices = json.loads(self.get("choices") or "[]")
        self.set("choices", json.dumps([*choices, *({number} - set(choices))]))
        self.set("best_number", str(number))

    @property
    def seconds(self) -> float:
        """Time spent on the run so far, over all its sessions."""
        if self._lock is None:
            return self._seconds_before
        return self._seconds_before + time.monotonic() - self._opened

    # -- what is asked of the models ---------------------------------------------------------------------------------------

    def record_examples(self, split: str, examples: Sequence[Example], asked: str = "") -> None:
        """Keep the examples of a whole split, named by its portion's key.

        Args:
            split: The key.
            examples: A task's own kind may have more fields, which are not kept; what the models are asked stands for them.
            asked: ``digest_of`` the split; empty where nobody will ask.

        Raises:
            StudyError: A resumed run has other data than it began with.
        """
        known, digest = self.examples(split), self.get(f"asked/{split}") or asked
        kept = [Example(example.id, example.question, example.answer) for example in examples]
        if known and (known != kept or digest != asked):
            raise StudyError(f"the data of the '{split}' split changed since the run began; restore it, or start a new run")
        if not known:
            rows = [(split, i, e.id, e.question, e.answer) for i, e in enumerate(kept)]
            with self._db:
                self._db.executemany("INSERT INTO examples VALUES (?, ?, ?, ?, ?)", rows)
                self._db.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (f"asked/{split}", asked))

    def examples(self, split: str) -> list[Example]:
        """The examples of a split, in the order of the rows of every evaluation of it."""
        rows = self._db.execute("SELECT id, question, answer FROM examples WHERE split = ? ORDER BY position", (split,))
        return [Example(*row) for row in rows]

    def splits(self) -> list[str]:
        """Names of the splits whose examples are kept, in the order of the alphabet."""
        return [split for (split,) in self._db.execute("SELECT DISTINCT split FROM examples ORDER BY split")]

    # -- who is scored -----------------------------------------------------------------------------------------------------

    def record_entrant(self, entrant: Entrant) -> None:
        """Keep a model that is scored beside the search; the same name again must mean the same recipe."""
        known = {e.name: e for e in self.entrants()}.get(entrant.name)
        if known is not None and known.recipe != entrant.recipe:
            raise StudyError(f"'{entrant.name}' is not the model it was when the run began; start a new run")
        if known is None:
            with self._db:
                digest = self._keep_recipe(entrant.recipe)
                values = (entrant.role, entrant.name, digest)
                self._db.execute("INSERT INTO entrants (role, name, recipe) VALUES (?, ?, ?)", values)

    def entrants(self) -> list[Entrant]:
        """Sources, un-tuned merges and the chosen one, in the order they were recorded."""
        query = "SELECT role, name, yaml FROM entrants JOIN recipes ON recipe = hash ORDER BY position"
        return [Entrant(role, name, from_yaml(text)) for role, name, text in self._db.execute(query)]

    def entrant_hashes(self) -> list[tuple[str, str, str]]:
        """Role, name and the recipe's hash of each of ``entrants``, without reading a recipe."""
        return self._db.execute("SELECT role, name, recipe FROM entrants ORDER BY position").fetchall()

    def drop_entrant(self, role: str) -> None:
        """Forget the entrants of a role, for example the best, when a resumed run with a larger budget chooses again."""
        with self._db:
            self._db.execute("DELETE FROM entrants WHERE role = ?", (role,))

    def record_generation(
        self, stage: str, generation: int, portion: Portion, genomes: Sequence[Genome], recipes: Sequence[Recipe]
    ) -> list[int]:
        """Keep what a stage's optimizer proposed, and what it is to be asked, before anything is evaluated.

        Returns:
            The candidates' numbers.

        Raises:
            StudyError: A resumed run proposes other candidates than it did, so that it would not be the same run.
        """
        query = "SELECT number, genome, recipe, portion FROM candidates WHERE stage = ? AND generation = ? ORDER BY number"
        known = self._db.execute(query, (stage, generation)).fetchall()
        if known:
            pairs = zip(genomes, recipes, strict=True)
            proposed = [(genome.tolist(), recipe_hash(recipe), portion.key) for genome, recipe in pairs]
            if [(_genome(blob).tolist(), digest, key) for _, blob, digest, key in known] != proposed:
                of_stage = f" of stage '{stage}'" if stage else ""
                raise StudyError(
                    f"generation {generation}{of_stage} is not what the run proposed before; the optimizer, its library, the "
                    "config or an earlier stage changed: restore it, or start a new run"
                )
            return [number for number, *_ in known]
        first = self.n_candidates
        with self._db:
            for number, (genome, recipe) in enumerate(zip(genomes, recipes, strict=True), start=first):
                digest = self._keep_recipe(recipe)
                row = (number, stage, generation, portion.key, genome.astype(_DOUBLE).tobytes(), digest)
                self._db.execute("INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?)", row)
        return list(range(first, first + len(genomes)))

    def candidates(self) -> list[StoredCandidate]:
        """Everything proposed so far, in order; the last generation may not be evaluated yet."""
        return self._candidates("")

    def candidate(self, number: int) -> StoredCandidate:
        """The one of that number."""
        (found,) = self._candidates("WHERE c.number = ?", number)
        return found

    @property
    def n_candidates(self) -> int:
        """How many were proposed so far; they are numbered from 0."""
        return int(self._db.execute("SELECT COUNT(*) FROM candidates").fetchone()[0])

    def hash_of(self, number: int) -> str | None:
        """The hash of a candidate's recipe, without reading it; ``None`` where there is no such candidate."""
        row = self._db.execute("SELECT recipe FROM candidates WHERE number = ?", (number,)).fetchone()
        return None if row is None else str(row[0])

    def record_stop(self, number: int, portion: Portion) -> None:
        """Keep that a race stopped a candidate, and what it had been asked by then."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO stopped VALUES (?, ?)", (number, portion.key))

    def proposals(self) -> list[Proposal]:
        """``candidates``, without reading a genome or a recipe."""
        query = (
            "SELECT c.number, stage, generation, c.portion, c.recipe, e.id IS NOT NULL OR s.number IS NOT NULL "
            "FROM candidates AS c LEFT JOIN evaluations AS e ON e.recipe = c.recipe AND e.portion = c.portion "
            "LEFT JOIN stopped AS s ON s.number = c.number ORDER BY c.number"
        )
        rows = self._db.execute(query)
        return [Proposal(number, stage, n, portion, digest, bool(known)) for number, stage, n, portion, digest, known in rows]

    def stages(self) -> frozenset[str]:
        """Those that have candidates."""
        return frozenset(stage for (stage,) in self._db.execute("SELECT DISTINCT stage FROM candidates"))

    # -- what they scored --------------------------------------------------------------------------------------------------

    def record_evaluation(self, recipe: Recipe, portion: Portion, evaluation: Evaluation) -> None:
        """Keep an evaluation with every score and completion, all or nothing."""
        cost = evaluation.cost
        with self._db:
            cursor = self._db.execute(
                "INSERT INTO evaluations (recipe, portion, metrics, n_objectives, fitness, scalar, violation, failure, "
                "merge_seconds, evaluation_seconds, new_tokens) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._keep_recipe(recipe),
                    portion.key,
                    json.dumps(evaluation.metrics),
                    evaluation.n_objectives,
                    None if evaluation.failure is not None else _numbers(evaluation.fitness.tolist()),
                    evaluation.scalar,
                    evaluation.violation,
                    evaluation.failure,
                    cost.merge_seconds,
                    cost.evaluation_seconds,
                    cost.new_tokens,
                ),
            )
            counted = (cursor.lastrowid, cost.n_degenerate, cost.n_drafted, cost.n_accepted)
            self._db.execute("INSERT INTO decoding VALUES (?, ?, ?, ?)", counted)
            positions = range(len(evaluation.completions)) if evaluation.positions is None else evaluation.positions
            answers = zip(positions, evaluation.completions, evaluation.scores.tolist(), strict=True)
            rows = [(cursor.lastrowid, i, text, _numbers(scores)) for i, text, scores in answers]
            self._db.executemany("INSERT INTO answers VALUES (?, ?, ?, ?)", rows)
            self._keep_time()

    def evaluation(self, recipe: Recipe, portion: str) -> Evaluation | None:
        """What a recipe scored on the portion of that key, or ``None`` where it was not evaluated on it."""
        return self._evaluation(recipe_hash(recipe), portion)

    def evaluations_of(self, digest: str, split: str) -> list[Evaluation]:
        """What the recipe of that hash scored on a split and on portions of it, in the order they were made."""
        query = "SELECT portion FROM evaluations WHERE recipe = ? ORDER BY id"
        portions = [portion for (portion,) in self._db.execute(query, (digest,))]
        wanted = [portion for portion in portions if portion.split(":")[0] == split]
        return [found for portion in wanted if (found := self._evaluation(digest, portion)) is not None]

    def evaluated_splits(self, digest: str) -> list[str]:
        """Names of the splits of which the recipe of that hash was asked something."""
        query = "SELECT portion FROM evaluations WHERE recipe = ? ORDER BY id"
        return list(dict.fromkeys(portion.split(":")[0] for (portion,) in self._db.execute(query, (digest,))))

    def _evaluation(self, digest: str, portion: str) -> Evaluation | None:
        found = self._scored(digest, portion)
        if found is None:
            return None
        number, evaluation = found
        if evaluation.failure is not None:
            return evaluation
        query = "SELECT position, completion FROM answers WHERE evaluation = ? ORDER BY position"
        answers = self._db.execute(query, (number,)).fetchall()
        return replace(
            evaluation,
            completions=tuple(str(completion) for _, completion in answers),
            positions=tuple(position for position, _ in answers) if ":" in portion else None,
        )

    def earlier(self, digest: str, most: int) -> tuple[Genome, list[tuple[str, Genome]]] | None:
        """The genome of the first candidate with a recipe, and hash and genome of those before it in its stage.

        Each recipe is there once, as it came last; ``None`` where no candidate has the recipe, or none is before it.

        Args:
            digest: Hash of the recipe.
            most: Of so many candidates at most, the last ones.
        """
        query = "SELECT number, stage, genome FROM candidates WHERE recipe = ? ORDER BY number LIMIT 1"
        row = self._db.execute(query, (digest,)).fetchone()
        if row is None:
            return None
        before = "SELECT recipe, genome FROM candidates WHERE stage = ? AND number < ? ORDER BY number DESC LIMIT ?"
        others = dict(reversed(self._db.execute(before, (row[1], row[0], most)).fetchall()))
        return (_genome(row[2]), [(recipe, _genome(blob)) for recipe, blob in others.items()]) if others else None

    def completions(self, digest: str, split: str) -> dict[int, str]:
        """What a recipe answered to any problems of a split, by their position in it."""
        query = (
            "SELECT position, completion FROM answers JOIN evaluations ON evaluation = id "
            "WHERE recipe = ? AND (portion = ? OR substr(portion, 1, ?) = ?) ORDER BY id"
        )
        return dict(self._db.execute(query, (digest, split, len(split) + 1, f"{split}:")).fetchall())

    def outcome(self, proposal: Proposal) -> tuple[NDArray[np.float64], float] | None:
        """Its fitness ``(n,)`` and violation, without reading an answer; ``None`` where it has none or failed."""
        query = "SELECT fitness, violation FROM evaluations WHERE recipe = ? AND portion = ? AND failure IS NULL"
        row = self._db.execute(query, (proposal.recipe, proposal.portion)).fetchone()
        return None if row is None else (_array(json.loads(row[0])), float(row[1]))

    def columns(self, portion: str, metric: str) -> dict[str, NDArray[np.float64]]:
        """A metric of everyone that was scored on the portion of that key, without reading a completion.

        Returns:
            ``(n_examples,)`` by hash of the recipe, over the metric's own examples; without recipes that failed.
        """
        query = "SELECT id, recipe, metrics FROM evaluations WHERE portion = ? AND failure IS NULL ORDER BY id"
        found = {}
        for number, digest, metrics in self._db.execute(query, (portion,)).fetchall():
            names = json.loads(metrics)
            if metric in names:
                rows = self._db.execute("SELECT scores FROM answers WHERE evaluation = ? ORDER BY position", (number,))
                values = _array(json.loads(f"[{','.join(text for (text,) in rows)}]")).reshape(-1, len(names))
                column = values[:, names.index(metric)]
                found[digest] = column[~np.isnan(column)]
        return found

    def portions(self, recipe: Recipe, split: str) -> list[str]:
        """Keys of the portions of a split, itself among them, that a recipe was scored on; not those on which it failed."""
        query = (
            "SELECT portion FROM evaluations WHERE recipe = ? AND failure IS NULL AND "
            "(portion = ? OR substr(portion, 1, ?) = ?) ORDER BY id"
        )
        values = (recipe_hash(recipe), split, len(split) + 1, f"{split}:")
        return [key for (key,) in self._db.execute(query, values)]

    def is_evaluated(self, recipe: Recipe, portion: str) -> bool:
        """Whether ``evaluation`` would find one, without reading it."""
        query = "SELECT 1 FROM evaluations WHERE recipe = ? AND portion = ?"
        return self._db.execute(query, (recipe_hash(recipe), portion)).fetchone() is not None

    def _scored(self, digest: str, portion: str) -> tuple[int, Evaluation] | None:
        """The row of an evaluation, and what it holds but for completions and positions."""
        row = self._db.execute(
            "SELECT id, metrics, n_objectives, scalar, violation, failure, merge_seconds, evaluation_seconds, new_tokens "
            "FROM evaluations WHERE recipe = ? AND portion = ?",
            (digest, portion),
        ).fetchone()
        if row is None:
            return None
        number, metrics, n_objectives, scalar, violation, failure, merge_seconds, evaluation_seconds, new_tokens = row
        names = tuple(json.loads(metrics))
        if failure is not None:
            return number, replace(failed(names, n_objectives, failure, Cost(merge_seconds)), scalar=scalar)
        rows = self._db.execute("SELECT scores FROM answers WHERE evaluation = ? ORDER BY position", (number,)).fetchall()
        values = json.loads(f"[{','.join(text for (text,) in rows)}]")  # at once: many thousand times, rows by the hundred
        scores = _array(values).reshape(len(rows), len(names))
        query = "SELECT n_degenerate, n_drafted, n_accepted FROM decoding WHERE evaluation = ?"
        counted = self._db.execute(query, (number,)).fetchone() or (0, 0, 0)
        cost = Cost(merge_seconds, evaluation_seconds, new_tokens, *counted)
        return number, Evaluation(names, n_objectives, scores, completions=(), cost=cost, scalar=scalar, violation=violation)

    def _candidates(self, condition: str, *values: str | int) -> list[StoredCandidate]:
        query = (
            "SELECT c.number, stage, generation, genome, yaml, c.portion, coalesce(s.portion, c.portion) FROM candidates AS c "
            "JOIN recipes ON recipe = hash LEFT JOIN stopped AS s ON s.number = c.number "
        )
        rows = self._db.execute(f"{query}{condition} ORDER BY c.number", values).fetchall()
        recipes = {text: from_yaml(text) for text in {row[4] for row in rows}}  # parsing is slow, and many repeat
        return [
            StoredCandidate(number, stage, generation, _genome(blob), recipes[text], portion, asked)
            for number, stage, generation, blob, text, portion, asked in rows
        ]

    def _keep_recipe(self, recipe: Recipe) -> str:
        digest = recipe_hash(recipe)
        self._db.execute("INSERT OR IGNORE INTO recipes VALUES (?, ?)", (digest, to_yaml(recipe)))
        return digest

    def _keep_time(self) -> None:
        self._db.execute("INSERT OR REPLACE INTO run VALUES ('seconds', ?)", (str(self.seconds),))


@contextmanager
def opened(study: Study) -> Iterator[Study]:
    """A study that is closed whatever happens."""
    try:
        yield study
    finally:
        study.close()


def _numbers(values: Sequence[float]) -> str:
    """As JSON, which has no nan."""
    return json.dumps([None if math.isnan(value) else value for value in values])


def _array(values: Sequence[Any]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)  # which makes nan of None


def _genome(blob: bytes) -> Genome:
    return np.frombuffer(blob, _DOUBLE).astype(np.float64)
