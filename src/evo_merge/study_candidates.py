"""The candidates of a study, read from its tables."""

import sqlite3

import numpy as np

from evo_merge.genome import Genome
from evo_merge.recipe_file import from_yaml
from evo_merge.study_records import Proposal, StoredCandidate

_DOUBLE = "<f8"


def genome_bytes(genome: Genome) -> bytes:
    """A genome as the file has it: little-endian doubles."""
    return genome.astype(_DOUBLE).tobytes()


def genome_of(stored: bytes) -> Genome:
    """The genome of those bytes, ``(dim,)``."""
    return np.frombuffer(stored, _DOUBLE).astype(np.float64)


def read_candidates(db: sqlite3.Connection, condition: str = "", *values: str | int) -> list[StoredCandidate]:
    """The candidates that an SQL condition on ``candidates AS c`` picks, in order."""
    query = (
        "SELECT c.number, stage, generation, genome, yaml, c.portion, coalesce(s.portion, c.portion) FROM candidates AS c "
        "JOIN recipes ON recipe = hash LEFT JOIN stopped AS s ON s.number = c.number "
    )
    rows = db.execute(f"{query}{condition} ORDER BY c.number", values).fetchall()
    recipes = {text: from_yaml(text) for text in {row[4] for row in rows}}  # parsing is slow, and many repeat
    return [
        StoredCandidate(number, stage, generation, genome_of(stored), recipes[text], portion, asked)
        for number, stage, generation, stored, text, portion, asked in rows
    ]


def read_proposals(db: sqlite3.Connection) -> list[Proposal]:
    """All candidates without their genomes and recipes, in order."""
    query = (
        "SELECT c.number, stage, generation, c.portion, c.recipe, e.id IS NOT NULL OR s.number IS NOT NULL "
        "FROM candidates AS c LEFT JOIN evaluations AS e ON e.recipe = c.recipe AND e.portion = c.portion "
        "LEFT JOIN stopped AS s ON s.number = c.number ORDER BY c.number"
    )
    rows = db.execute(query)
    return [Proposal(number, stage, n, portion, digest, bool(known)) for number, stage, n, portion, digest, known in rows]


def read_earlier(db: sqlite3.Connection, digest: str, most: int) -> tuple[Genome, list[tuple[str, Genome]]] | None:
    """See ``Study.earlier``."""
    query = "SELECT number, stage, genome FROM candidates WHERE recipe = ? ORDER BY number LIMIT 1"
    row = db.execute(query, (digest,)).fetchone()
    if row is None:
        return None
    number, stage, genome = row
    before = "SELECT recipe, genome FROM candidates WHERE stage = ? AND number < ? ORDER BY number DESC LIMIT ?"
    others = dict(reversed(db.execute(before, (stage, number, most)).fetchall()))
    return (genome_of(genome), [(recipe, genome_of(stored)) for recipe, stored in others.items()]) if others else None
