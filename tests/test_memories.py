"""``Memories``: what a study holds, as if it had just been answered."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import evo_merge.models.tiny
from evo_merge.evaluation.base import Evaluation
from evo_merge.evaluation.pieced import Pieced
from evo_merge.models.pool import Pool
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.reuse import Memories, answering
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Decoding, Example, Likelihoods, Portion

RULE = ParameterRule(("*",), {"weight": (1.0,)})
RECIPE = ParameterSpaceRecipe(None, (Source("a", ModelReference("./a")),), "linear", {}, (RULE,), 1, "float32", "float32")
EXAMPLES = [Example(f"p{i}", "?", "1") for i in range(4)]


class Mixed:
    """Two questions that are answered, and two whose continuations are compared."""

    name, objectives, metrics, language = "mixed", ("right",), ("right",), None

    def examples(self, split):
        return EXAMPLES if split == "search" else []

    def prompt(self, example):
        return example.question

    def answering_of(self, example):
        return Decoding(4) if example.id < "p2" else Likelihoods((("?", "1"),))

    def score(self, example, answer):
        raise AssertionError("nothing is scored here")


class Asked:
    """Answers whatever it is asked, and remembers."""

    def __init__(self):
        self.portions = []

    def evaluate(self, recipe, portion):
        self.portions.append(portion)
        n = len(portion.positions)
        return Evaluation(("right",), 1, np.ones((n, 1)), ("new",) * n, positions=portion.positions, written=(False,) * n)


@pytest.fixture
def studies(tmp_path: Path):
    (tmp_path / "own").mkdir()
    (tmp_path / "earlier").mkdir()
    with opened(Study.create(tmp_path / "own")) as own, opened(Study.create(tmp_path / "earlier")) as earlier:
        own.record_examples("search", EXAMPLES, "asked")
        earlier.record_examples("search", EXAMPLES, "asked")
        yield own, earlier


def answered(positions):
    n = 4 if positions is None else len(positions)
    scores = np.stack([np.arange(n) % 2, -np.arange(n)], axis=1).astype(float)
    return Evaluation(("right", "brevity"), 2, scores, ("text",) * n, positions=positions, scalar=0.5, violation=0.25)


def test_an_earlier_study_gives_the_tasks_own_columns_and_says_who_wrote_what(studies):
    own, earlier = studies
    earlier.record_evaluation(RECIPE, Portion("search"), answered(None))
    found = Memories(own, [earlier], Mixed()).evaluation(RECIPE, "search")
    assert (found.metrics, found.n_objectives, found.scalar, found.violation) == (("right",), 1, None, 0.0)
    assert found.scores.tolist() == [[0.0], [1.0], [0.0], [1.0]]
    assert found.written == (True, True, False, False)


def test_a_known_part_and_a_new_one_are_one_evaluation(studies):
    own, earlier = studies
    part = Portion("search", (0, 3))
    earlier.record_evaluation(RECIPE, part, answered(part.positions))
    asked = Asked()
    found = Pieced(asked, Memories(own, [earlier], Mixed())).evaluate(RECIPE, Portion("search"))
    assert asked.portions == [Portion("search", (1, 2))]
    assert found.completions == ("text", "new", "new", "text")
    assert found.written == (True, False, False, False)
    assert found.scores[:, 0].tolist() == [0.0, 1.0, 1.0, 1.0]


def test_a_split_with_other_prompts_is_not_taken_from(studies, tmp_path):
    own, _ = studies
    (tmp_path / "other").mkdir()
    with opened(Study.create(tmp_path / "other")) as other:
        other.record_examples("search", EXAMPLES, "asked in other words")
        other.record_evaluation(RECIPE, Portion("search"), answered(None))
        memory = Memories(own, [other], Mixed())
        assert memory.portions(RECIPE, "search") == []
        assert memory.evaluation(RECIPE, "search") is None


def test_what_decides_answers_beside_weights_is_told_apart(tmp_path):
    def of(folder):
        return answering(Pool(base=None, sources=[{"name": "a", "model": str(folder)}]))

    folder = shutil.copytree(Path(evo_merge.models.tiny.__file__).parent / "tiny_ja_math" / "ja", tmp_path / "ja")
    before = of(folder)
    assert of(folder) == before
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    assert {what for what, value in of(folder).items() if before[what] != value} == {f"config of '{folder}'"}
    (folder / "config.json").write_text(json.dumps(config))
    words = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(words | {"chat_template": "{{ messages }}"}))
    assert {what for what, value in of(folder).items() if before[what] != value} == {"tokenizer and chat template"}
