"""The file of a study: its tables, and how it is created, continued and looked at."""

import os
import sqlite3
from pathlib import Path

from filelock import FileLock, Timeout

from evo_merge.errors import StudyError

SCHEMA_VERSION = 3
FILE_NAME = "study.sqlite"
_SCHEMA = """
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE examples (split TEXT, position INTEGER, id TEXT NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL,
    PRIMARY KEY (split, position));
CREATE TABLE recipes (hash TEXT PRIMARY KEY, yaml TEXT NOT NULL);
CREATE TABLE entrants (position INTEGER PRIMARY KEY, role TEXT NOT NULL, name TEXT NOT NULL UNIQUE,
    recipe TEXT NOT NULL REFERENCES recipes (hash));
CREATE TABLE candidates (number INTEGER PRIMARY KEY, stage TEXT NOT NULL, generation INTEGER NOT NULL, portion TEXT NOT NULL,
    genome BLOB NOT NULL, recipe TEXT NOT NULL REFERENCES recipes (hash));
CREATE TABLE evaluations (id INTEGER PRIMARY KEY, recipe TEXT NOT NULL REFERENCES recipes (hash), portion TEXT NOT NULL,
    metrics TEXT NOT NULL, n_objectives INTEGER NOT NULL, fitness TEXT, scalar REAL, violation REAL NOT NULL, failure TEXT,
    merge_seconds REAL NOT NULL, evaluation_seconds REAL NOT NULL, new_tokens INTEGER NOT NULL, UNIQUE (recipe, portion));
CREATE TABLE answers (evaluation INTEGER REFERENCES evaluations (id), position INTEGER, completion TEXT NOT NULL,
    scores TEXT NOT NULL, PRIMARY KEY (evaluation, position));
"""
# Tables that came later, and as if empty in runs from before: what a race let a candidate be asked; what answering took, beside
# tokens and seconds.
_LATER = {
    "stopped": "(number INTEGER PRIMARY KEY, portion TEXT NOT NULL)",
    "decoding": "(evaluation INTEGER PRIMARY KEY REFERENCES evaluations (id), n_degenerate INTEGER NOT NULL, "
    "n_drafted INTEGER NOT NULL, n_accepted INTEGER NOT NULL)",
}


def created(folder: Path) -> tuple[sqlite3.Connection, FileLock]:
    """A new file with empty tables, for this process alone; raises ``StudyError`` where the folder holds one already."""
    lock = _locked(folder)
    if (folder / FILE_NAME).exists():
        lock.release()
        raise StudyError(f"'{folder}' already holds a run; continue it with resume={folder}, or choose another folder")
    connection = _durable(sqlite3.connect(folder / FILE_NAME, timeout=60))
    with connection:
        connection.execute("BEGIN")  # sqlite3 begins none for a CREATE, and executescript would commit each
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        _add_later(connection)
        connection.execute("INSERT INTO run VALUES ('schema_version', ?)", (str(SCHEMA_VERSION),))
    return connection, lock


def resumed(folder: Path) -> tuple[sqlite3.Connection, FileLock]:
    """The file of a run, for this process alone; raises ``StudyError`` where there is none or another writes to it."""
    _refuse_missing(folder)
    lock = _locked(folder)
    try:
        connection = _checked(sqlite3.connect(folder / FILE_NAME, timeout=60), folder)
    except StudyError:
        lock.release()
        raise
    _add_later(connection)
    return _durable(connection), lock


def read_only(folder: Path) -> sqlite3.Connection:
    """The file of a run, finished or not, to look at; raises ``StudyError`` where there is none."""
    _refuse_missing(folder)
    # Where a commit was cut off, SQLite has to roll it back before anyone can read, and needs write access for that.
    mode = "rw" if os.access(folder, os.W_OK) else "ro"
    connection = sqlite3.connect(f"{(folder / FILE_NAME).absolute().as_uri()}?mode={mode}", uri=True, timeout=60)
    _add_later(_checked(connection, folder), "TEMP")  # of this connection, not of the file
    connection.execute("PRAGMA query_only = ON")
    return connection


def _add_later(connection: sqlite3.Connection, kind: str = "") -> None:
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for name, columns in _LATER.items():
        if name not in there:
            connection.execute(f"CREATE {kind} TABLE {name} {columns}")


def _durable(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("PRAGMA synchronous = FULL")  # a commit survives the plug being pulled
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _checked(connection: sqlite3.Connection, folder: Path) -> sqlite3.Connection:
    try:
        row = connection.execute("SELECT value FROM run WHERE key = 'schema_version'").fetchone()
    except sqlite3.DatabaseError as error:
        raise StudyError(f"'{folder / FILE_NAME}' is not the record of a run ({error})") from error
    if row is None or row[0] != str(SCHEMA_VERSION):
        version = None if row is None else row[0]
        raise StudyError(f"'{folder / FILE_NAME}' has schema version {version}, this evo-merge reads version {SCHEMA_VERSION}")
    return connection


def _refuse_missing(folder: Path) -> None:
    if not (folder / FILE_NAME).is_file():
        raise StudyError(f"'{folder}' holds no run: it has no {FILE_NAME}; name a run folder such as outputs/<day>/<time>")


def _locked(folder: Path) -> FileLock:
    lock = FileLock(str(folder / (FILE_NAME + ".lock")))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StudyError(f"another process is running in '{folder}'; wait for it, or choose another folder") from error
    return lock
