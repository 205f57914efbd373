"""The run's memory: one SQLite file with every candidate, recipe, score and completion, and the time spent.

Everything is written in a transaction of its own before anyone is told of it, so that a killed run loses only the candidate in
flight. Resuming needs nothing else: the same loop runs again with a fresh optimizer of the same seed, proposes the same
candidates, and finds their evaluations here. The file is plain SQL, JSON and YAML, and genomes are the bytes of little-endian
doubles; it holds no pickled object.
"""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from evo_merge.errors import StudyError
from evo_merge.evaluation.base import Evaluation
from evo_merge.fingerprints import is_same
from evo_merge.genome import Genome
from evo_merge.recipe import Recipe, recipe_hash, to_yaml
from evo_merge.recipe_file import from_yaml
from evo_merge.study_candidates import genome_bytes, genome_of, read_candidates, read_earlier, read_proposals
from evo_merge.study_evaluations import read_columns, read_evaluation, read_outcome, write_evaluation
from evo_merge.study_file import created, read_only, resumed
from evo_merge.study_records import Entrant, Proposal, StoredCandidate
from evo_merge.tasks.base import Example, Portion


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
            if [(genome_of(stored).tolist(), digest, key) for _, stored, digest, key in known] != proposed:
                of_stage = f" of stage '{stage}'" if stage else ""
                raise StudyError(
                    f"generation {generation}{of_stage} is not what the run proposed before; the optimizer, its library, the "
                    "config or an earlier stage changed: restore it, or start a new run"
                )
            return [number for number, *_ in known]
        first = self.n_candidates
        with self._db:
            for number, (genome, recipe) in enumerate(zip(genomes, recipes, strict=True), start=first):
                row = (number, stage, generation, portion.key, genome_bytes(genome), self._keep_recipe(recipe))
                self._db.execute("INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?)", row)
        return list(range(first, first + len(genomes)))

    def candidates(self) -> list[StoredCandidate]:
        """Everything proposed so far, in order; the last generation may not be evaluated yet."""
        return read_candidates(self._db)

    def candidate(self, number: int) -> StoredCandidate:
        """The one of that number."""
        (found,) = read_candidates(self._db, "WHERE c.number = ?", number)
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
        return read_proposals(self._db)

    def stages(self) -> frozenset[str]:
        """Those that have candidates."""
        return frozenset(stage for (stage,) in self._db.execute("SELECT DISTINCT stage FROM candidates"))

    # -- what they scored --------------------------------------------------------------------------------------------------

    def record_evaluation(self, recipe: Recipe, portion: Portion, evaluation: Evaluation) -> None:
        """Keep an evaluation with every score and completion, all or nothing."""
        with self._db:
            write_evaluation(self._db, self._keep_recipe(recipe), portion.key, evaluation)
            self._keep_time()

    def evaluation(self, recipe: Recipe, portion: str) -> Evaluation | None:
        """What a recipe scored on the portion of that key, or ``None`` where it was not evaluated on it."""
        return read_evaluation(self._db, recipe_hash(recipe), portion)

    def evaluations_of(self, digest: str, split: str) -> list[Evaluation]:
        """What the recipe of that hash scored on a split and on portions of it, in the order they were made."""
        query = "SELECT portion FROM evaluations WHERE recipe = ? ORDER BY id"
        portions = [portion for (portion,) in self._db.execute(query, (digest,))]
        wanted = [portion for portion in portions if portion.split(":")[0] == split]
        return [found for portion in wanted if (found := read_evaluation(self._db, digest, portion)) is not None]

    def evaluated_splits(self, digest: str) -> list[str]:
        """Names of the splits of which the recipe of that hash was asked something."""
        query = "SELECT portion FROM evaluations WHERE recipe = ? ORDER BY id"
        return list(dict.fromkeys(portion.split(":")[0] for (portion,) in self._db.execute(query, (digest,))))

    def earlier(self, digest: str, most: int) -> tuple[Genome, list[tuple[str, Genome]]] | None:
        """The genome of the first candidate with a recipe, and hash and genome of those before it in its stage.

        Each recipe is there once, as it came last; ``None`` where no candidate has the recipe, or none is before it.

        Args:
            digest: Hash of the recipe.
            most: Of so many candidates at most, the last ones.
        """
        return read_earlier(self._db, digest, most)

    def completions(self, digest: str, split: str) -> dict[int, str]:
        """What a recipe answered to any problems of a split, by their position in it."""
        query = (
            "SELECT position, completion FROM answers JOIN evaluations ON evaluation = id "
            "WHERE recipe = ? AND (portion = ? OR substr(portion, 1, ?) = ?) ORDER BY id"
        )
        return dict(self._db.execute(query, (digest, split, len(split) + 1, f"{split}:")).fetchall())

    def outcome(self, proposal: Proposal) -> tuple[NDArray[np.float64], float] | None:
        """Its fitness ``(n,)`` and violation, without reading an answer; ``None`` where it has none or failed."""
        return read_outcome(self._db, proposal.recipe, proposal.portion)

    def columns(self, portion: str, metric: str) -> dict[str, NDArray[np.float64]]:
        """A metric of everyone that was scored on the portion of that key, without reading a completion.

        Returns:
            ``(n_examples,)`` by hash of the recipe, over the metric's own examples; without recipes that failed.
        """
        return read_columns(self._db, portion, metric)

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
