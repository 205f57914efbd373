"""The rule as it ships, on answers that real models give."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from evo_merge.baselines import single_model
from evo_merge.evaluation.degenerate import RepetitionCounter
from evo_merge.evaluation.hf import HuggingFaceGenerator
from evo_merge.evaluation.prompts import render_split
from evo_merge.models.assemble import Assembler
from evo_merge.models.pool import Pool
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe
from evo_merge.tasks.tiny_math import TinyMath

FAMILY = "builtin:tiny_ja_math/"


@pytest.fixture
def rule():
    from pathlib import Path

    return instantiate(OmegaConf.load(Path(__file__).parents[2] / "conf/generator/hf.yaml").degenerate)


def is_hit(rule, tokens):
    counter = RepetitionCounter(rule)
    hits = [counter.add(token) for token in tokens]  # all of them are to be added
    return any(hits)


@pytest.mark.parametrize("language", ["ja", "en"])
def test_no_right_answer_of_the_embedded_family_is_given_up(rule, language):
    sources = [{"name": name, "model": FAMILY + name} for name in ("ja", "math_a", "math_b")]
    pool = Pool(base=FAMILY + "base", sources=sources)
    evolved = {"weight": (0.55, 0.8, 0.65), "density": (0.9, 0.9, 0.8)}
    recipe = ParameterSpaceRecipe(
        *(
            pool.base.reference,
            pool.recipe_sources,
            "dare_ties",
            {},
            (ParameterRule(("*",), evolved),),
            7,
            "float32",
            pool.out_dtype,
        )
    )
    task = TinyMath(
        name="tiny",
        questions=language,
        limit={"search": 60, "validation": 1, "test": 1},
        seed=0,
        max_new_tokens=120,  # three times what the task allows: room to repeat themselves
        answer_parser="strict",
        language=language,
        language_threshold=0.5,
    )
    generator = HuggingFaceGenerator(batch_size=60)  # without the rule
    assembler = Assembler(pool, torch.device("cpu"))
    split = render_split(task, "search", pool.tokenizer, 256, 60, is_packed=True)
    n_right = 0
    for each in (recipe, *(single_model(model.reference, pool.out_dtype) for model in pool.sources)):
        (batch,) = split
        found = generator.generate(assembler.assemble(each), pool.tokenizer, batch)
        for position, tokens, text in zip(found.positions, found.token_ids, found.texts, strict=True):
            right = task.score(split.examples[position], text)[0] > 0
            n_right += right
            assert not (right and is_hit(rule, tokens)), text
    assert n_right > 10


@pytest.mark.parametrize(
    "text",
    [
        "|---|---|---|---|\n| 1 | 2 | 3 | 4 |",
        "0.3333333333",
        "1000000000000000",
        "1, 1, 2, 3, 5, 8, 13, 21, 34, 55",
        "はい。はい。はい。答えは5です。答えは5です。",
        "2+2+2+2+2+2+2=14",
    ],
)
def test_what_answers_may_hold_is_no_degenerate_text(rule, text):
    assert not is_hit(rule, [ord(letter) for letter in text])
