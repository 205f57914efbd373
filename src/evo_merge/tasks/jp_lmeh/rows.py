"""A row of a data file or of a dataset on the hub as an example, task by task.

Field names are those of the hub's datasets and of plainer JSON Lines: where two are named, either will do.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from evo_merge.errors import DataError
from evo_merge.tasks.jp_lmeh.prompts import Fields, JaExample

Row = Mapping[str, Any]


def jcommonsenseqa(row: Row, place: str) -> JaExample:
    """``question``, ``choices`` or ``choice0`` to ``choice4``, ``label`` from 0."""
    question = _text(row, place, "question")
    choices = row.get("choices")
    if choices is None and all(f"choice{i}" in row for i in range(5)):
        choices = [row[f"choice{i}"] for i in range(5)]
    if not isinstance(choices, list | tuple) or len(choices) < 2 or not all(isinstance(each, str) and each for each in choices):
        _refuse(row, place, "a list of texts in 'choices'")
    right = _label(row, place, [str(i) for i in range(len(choices))], "label")
    fields: Fields = {"question": question, "choices": tuple(choices), "number": str(right)}
    return JaExample(_id(row, "id", "q_id"), question, choices[right], fields, tuple(choices), right)


def jnli(row: Row, place: str) -> JaExample:
    """``premise`` and ``hypothesis`` or ``sentence1`` and ``sentence2``; ``label`` in words or 0 to 2."""
    premise, hypothesis = _text(row, place, "premise", "sentence1"), _text(row, place, "hypothesis", "sentence2")
    names = ("entailment", "contradiction", "neutral")
    # The harness used version 1.1 of JGLUE, of which 29 labels were changed later.
    right = _label(row, place, names, "label_v1_1" if "label_v1_1" in row else "label")
    fields = {"premise": premise, "hypothesis": hypothesis}
    return JaExample(_id(row, "id", "sentence_pair_id"), f"{premise}\n{hypothesis}", names[right], fields, names, right)


def marc_ja(row: Row, place: str) -> JaExample:
    """``text`` or ``sentence``; ``label`` positive, negative, or 0 and 1."""
    text, names = _text(row, place, "text", "sentence"), ("positive", "negative")
    right = _label(row, place, names, "label")
    return JaExample(_id(row, "id", "review_id"), text, names[right], {"text": text}, names, right)


def jsquad(row: Row, place: str) -> JaExample:
    """``title``, ``context``, ``question``; ``answers`` a list, or ``text`` inside."""
    question, passage = _text(row, place, "question"), _text(row, place, "context").split("[SEP]")[-1].strip()
    answers = _answers(row, place)
    fields = {"title": _text(row, place, "title"), "passage": passage, "question": question}
    return JaExample(_id(row, "id"), f"{question}\n{passage}", answers[0], fields, answers, target=answers[0])


def jaqket_v2(row: Row, place: str) -> JaExample:
    """``question``, ``answers``; ``ctxs`` with lists ``title`` and ``text``, of which the first five are shown."""
    question, answers, passages = _text(row, place, "question"), _answers(row, place), row.get("ctxs")
    if not isinstance(passages, Mapping) or not passages.get("text") or not passages.get("title"):
        _refuse(row, place, "passages in 'ctxs' (without them: task=jp_lmeh/jaqket_closed_book)")
    return _with_passages(row, question, answers, list(zip(passages["title"], passages["text"], strict=True))[:5])


def jaqket_v2_shot(row: Row, place: str) -> JaExample | None:
    """Of a solved example only the first passage that holds the answer is shown; ``None`` where none does."""
    passages = row.get("ctxs")
    if not isinstance(passages, Mapping) or not isinstance(passages.get("has_answer"), list | tuple):
        _refuse(row, place, "'ctxs' with 'has_answer'")
    if True not in passages["has_answer"]:
        return None
    first = list(passages["has_answer"]).index(True)
    shown = [(passages["title"][first], passages["text"][first])]
    return _with_passages(row, _text(row, place, "question"), _answers(row, place), shown)


def jaqket_closed_book(row: Row, place: str) -> JaExample:
    """``question``; ``answer``, or ``answers``."""
    question = _text(row, place, "question")
    answers = (_text(row, place, "answer"),) if "answers" not in row else _answers(row, place)
    return JaExample(_id(row, "id", "qid"), question, answers[0], {"question": question}, answers, target=answers[0])


def xlsum_ja(row: Row, place: str) -> JaExample:
    """``text`` and ``summary``."""
    text, summary = _text(row, place, "text"), _text(row, place, "summary")
    return JaExample(_id(row, "id"), text, summary, {"text": text}, (summary,), target=summary)


def xwinograd_ja(row: Row, place: str) -> JaExample:
    """``sentence1``, ``sentence2``; ``answer`` 1 or 2."""
    sentences = (_text(row, place, "sentence1"), _text(row, place, "sentence2"))
    right = _label(row, place, ("1", "2"), "answer", numbers=False)
    return JaExample(_id(row, "id"), sentences[0], sentences[right], {}, sentences, right)


def mgsm(row: Row, place: str) -> JaExample:
    """``question``, ``answer_number``; ``answer``, the steps, of a solved example."""
    question, number = _text(row, place, "question").replace("問題：", ""), row.get("answer_number")
    if isinstance(number, bool) or not isinstance(number, int | float):
        _refuse(row, place, "a number in 'answer_number'")
    steps = str(row.get("answer") or "").replace("ステップごとの答え：", "")
    return JaExample(_id(row, "id"), question, str(number), {"question": question}, (str(number),), target=steps)


def jcola(row: Row, place: str) -> JaExample:
    """``sentence``; ``label`` 1 acceptable, 0 not."""
    sentence, names = _text(row, place, "sentence"), ("unacceptable", "acceptable")
    right = _label(row, place, names, "label")
    return JaExample(_id(row, "id", "uid"), sentence, names[right], {"sentence": sentence}, names, right)


def _with_passages(row: Row, question: str, answers: tuple[str, ...], passages: Sequence[tuple[str, str]]) -> JaExample:
    fields: Fields = {
        "question": question,
        "passage": tuple(text for _, text in passages),
        "titled_passages": tuple(f"[題名]:{title}\n[問題]:{text}" for title, text in passages),
    }
    return JaExample(_id(row, "id", "qid"), question, answers[0], fields, answers, target=answers[0])


def _id(row: Row, *names: str) -> str:
    return next((str(row[name]) for name in names if row.get(name) not in (None, "")), "")


def _text(row: Row, place: str, *names: str) -> str:
    value = next((row[name] for name in names if name in row), None)
    if not isinstance(value, str) or not value.strip():
        _refuse(row, place, f"a text in {' or '.join(map(repr, names))}")
    return value


def _answers(row: Row, place: str) -> tuple[str, ...]:
    answers = row.get("answers")
    if isinstance(answers, Mapping):
        answers = answers.get("text")
    if not isinstance(answers, list | tuple) or not answers or not all(isinstance(each, str) and each for each in answers):
        _refuse(row, place, "a list of texts in 'answers', none of them empty")
    return tuple(answers)


def _label(row: Row, place: str, names: Sequence[str], field: str, *, numbers: bool = True) -> int:
    """Which of the names the field says, by name, or where ``numbers`` by its place from 0."""
    value = row.get(field)
    if str(value) in names and not isinstance(value, bool):
        return list(names).index(str(value))
    if not numbers or not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(names):
        _refuse(row, place, f"in '{field}' one of {', '.join(names)}")
    return value


def _refuse(row: Row, place: str, needed: str) -> NoReturn:
    has = ", ".join(f"{key}: {str(value)[:40]!r}" for key, value in row.items()) or "nothing"
    raise DataError(f"{place}: a row needs {needed}; this one has {has}")
