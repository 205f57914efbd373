"""Contexts with few-shot examples, drawn by the harness' own samplers."""

from collections.abc import Iterator, Sequence
from typing import Any

from evo_merge.errors import DataError
from evo_merge.tasks.harness.division import Problem
from evo_merge.tasks.harness.requests import context_of, question_of


class Shots:
    """Writes the contexts of a task's problems."""

    def __init__(self, task: Any, seed: int, system: str | None, *, is_chat: bool) -> None:
        self._task, self._seed, self._system, self._is_chat = task, seed, system, is_chat
        self._n = int(task.config.num_fewshot or 0)

    def of_the_harness(self, problems: Sequence[Problem], docs: Sequence[Any]) -> list[Any]:
        """Those that the harness gives these problems when it asks all of ``docs``, their whole split, with the same seed."""
        wanted = {problem.number for problem in problems}
        self._task.set_fewshot_seed(self._seed)
        found: list[Any] = []
        for number, doc in enumerate(docs[: max(wanted, default=-1) + 1]):
            if number in wanted:
                found.append(self._context(doc, number))
            elif self._n:  # so that the next one's shots are those of its place
                self._context(doc, number)
        return found

    def apart_from(self, problems: Sequence[Problem], tested: frozenset[str]) -> list[Any]:
        """Shots that are neither the problem itself nor one of the test's, by the keys of these.

        The harness excludes a problem from its own shots only where they come from its test split.
        """
        if not self._n:
            return [self._context(problem.doc, problem.number) for problem in problems]
        sampler, task = self._task.sampler, self._task
        pool = list(sampler.df)
        self._task.set_fewshot_seed(self._seed)
        try:
            sampler.replace_df([doc for doc in pool if self._key(doc) not in tested])
            return list(self._without_themselves(sampler, problems))
        finally:
            task.sampler = sampler
            sampler.replace_df(pool)

    def _without_themselves(self, sampler: Any, problems: Sequence[Problem]) -> Iterator[Any]:
        for problem in problems:
            self._task.sampler = _Without(sampler, problem.doc)
            yield self._context(problem.doc, problem.number)

    def _context(self, doc: Any, number: int) -> Any:
        try:
            return context_of(self._task, doc, self._n, self._system, is_chat=self._is_chat)
        except (AssertionError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(
                f"harness task '{self._task.task_name}' cannot write the prompt of its problem {number} with {self._n} shots "
                f"({type(error).__name__}: {error}); fewer shots: task.num_fewshot=0"
            ) from error

    def _key(self, doc: Any) -> str:
        try:
            return Problem("training", 0, doc, *question_of(self._task, doc)).key
        except Exception:  # noqa: BLE001  shots written out in a YAML may lack what only problems need
            return ""


class _Without:
    """A sampler that never draws one document."""

    def __init__(self, sampler: Any, doc: Any) -> None:
        self._sampler, self._doc = sampler, doc

    def sample(self, n: int, eval_doc: Any = None) -> Any:
        """As the sampler draws, without the document."""
        return self._sampler.sample(n, eval_doc=self._doc)
