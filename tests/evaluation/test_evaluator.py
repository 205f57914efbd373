import copy
import logging
import os
import signal
import warnings

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer

from evo_merge.errors import DataError, UnusableCandidateError
from evo_merge.evaluation.evaluator import Evaluator
from evo_merge.evaluation.generator import LoadsWeights
from evo_merge.evaluation.hf import HuggingFaceGenerator
from evo_merge.evaluation.module import silence_lightning
from evo_merge.evaluation.prompts import render_split
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.tasks.base import Decoding, Portion

WINDOW = 64  # of the model


def recipe(seed):
    """Stands for weights that are drawn from the seed."""
    sources = (Source("a", ModelReference(model="a")),)
    return ParameterSpaceRecipe(None, sources, "linear", {}, (ParameterRule(("*",), {}),), seed, "float32", "float32")


class Drawing:
    """Assembles by drawing weights from the recipe's seed; seed 13 cannot be built, seed 14 gives a broken model."""

    def __init__(self, model):
        self.model = model

    def assemble(self, recipe):
        if recipe.seed == 13:
            raise UnusableCandidateError("weights are not finite in 'lm_head.weight'")
        generator = torch.Generator().manual_seed(recipe.seed)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
            if recipe.seed == 14:
                self.model.lm_head.weight[3] = torch.nan
        return self.model

    def tensors(self, recipe):
        return self.model.named_parameters()


class Copying(HuggingFaceGenerator):
    """Answers with a copy of the weights that it was given last, like an engine of its own."""

    def __init__(self, model):
        super().__init__(batch_size=3)
        self.cache_bytes, self.window = 0, None
        self.copy = copy.deepcopy(model)
        self.loaded = []

    def load(self, recipe, model, tokenizer, tensors):
        self.loaded.append(recipe)
        with torch.no_grad():
            for name, tensor in tensors():
                self.copy.get_parameter(name).copy_(tensor)

    def generate(self, model, tokenizer, batch):
        return super().generate(self.copy, tokenizer, batch)

    def release(self):
        self.copy = None


@pytest.fixture
def trainer():
    silence_lightning()
    return Trainer(
        accelerator="cpu",
        devices=1,
        precision=None,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )


def generator_of(batch_size):
    return HuggingFaceGenerator(batch_size=batch_size, token_budget=None, degenerate=None, drafts=False)


def evaluator_of(model, tokenizer, task, trainer, splits=("search", "test")):
    return Evaluator(Drawing(model), tokenizer, task, generator_of(3), trainer, splits, WINDOW)


@pytest.fixture
def evaluator(model, tokenizer, counting, trainer):
    return evaluator_of(model, tokenizer, counting(), trainer)


def test_scores_and_completions_are_in_the_order_of_the_examples(evaluator, model, tokenizer, counting):
    evaluation = evaluator.evaluate(recipe(1), Portion("search"))

    task = counting()
    generator = generator_of(1)  # the same weights, one prompt at a time
    singly = {
        batch.positions[0]: generator.generate(model, tokenizer, batch)
        for batch in render_split(task, "search", tokenizer, 64, 1)
    }
    assert evaluation.completions == tuple(singly[i].texts[0] for i in range(7))
    expected = [task.score(example, singly[i].texts[0]) for i, example in enumerate(task.examples("search"))]
    np.testing.assert_array_equal(evaluation.scores, expected)
    assert evaluation.cost.new_tokens == sum(len(completions.token_ids[0]) for completions in singly.values())


def test_an_evaluation_names_metrics_objectives_and_times(evaluator):
    evaluation = evaluator.evaluate(recipe(1), Portion("test"))

    assert evaluation.metrics == ("words", "characters")
    assert evaluation.fitness.shape == (1,)
    assert evaluation.failure is None
    assert evaluation.cost.merge_seconds > 0
    assert evaluation.cost.evaluation_seconds > 0


def test_each_recipe_gets_its_own_weights_and_the_same_recipe_the_same_answers(evaluator):
    first, other, again = (evaluator.evaluate(recipe(seed), Portion("search")) for seed in (1, 2, 1))

    assert first.completions == again.completions
    assert first.completions != other.completions


@pytest.mark.parametrize(("seed", "reason"), [(13, "weights are not finite in"), (14, "logits are not finite")])
def test_a_candidate_that_cannot_be_built_or_scored_fails_and_the_next_does_not(evaluator, seed, reason):
    before = evaluator.evaluate(recipe(1), Portion("search"))

    evaluation = evaluator.evaluate(recipe(seed), Portion("search"))

    assert evaluation.failure is not None
    assert evaluation.failure.startswith(reason)
    assert evaluation.fitness.tolist() == [-np.inf]
    assert evaluator.evaluate(recipe(1), Portion("search")).completions == before.completions


def test_some_of_the_examples_are_answered_and_scored_as_among_all(evaluator):
    whole = evaluator.evaluate(recipe(1), Portion("search"))

    some = evaluator.evaluate(recipe(1), Portion("search", (1, 4, 6)))

    assert whole.positions is None
    assert some.positions == (1, 4, 6)
    assert some.completions == tuple(whole.completions[i] for i in (1, 4, 6))
    np.testing.assert_array_equal(some.scores, whole.scores[[1, 4, 6]])
    assert some.cost.new_tokens < whole.cost.new_tokens
    assert evaluator.evaluate(recipe(1), Portion("search")).completions == whole.completions


def test_each_candidate_may_be_a_model_of_its_own(evaluator, model, monkeypatch):
    other = copy.deepcopy(model)
    alone = evaluator.evaluate(recipe(2), Portion("search"))
    models = iter([model, other, model])
    draw = evaluator.assembler.assemble

    def assemble(wanted):
        evaluator.assembler.model = next(models)
        return draw(wanted)

    monkeypatch.setattr(evaluator.assembler, "assemble", assemble)
    first, second, third = (evaluator.evaluate(recipe(seed), Portion("search")) for seed in (1, 2, 2))

    assert first.completions != second.completions
    assert second.completions == third.completions == alone.completions


def test_other_errors_are_not_hidden(evaluator, model, monkeypatch):
    monkeypatch.setattr(evaluator.assembler, "assemble", lambda recipe: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        evaluator.evaluate(recipe(1), Portion("search"))


def test_a_split_that_does_not_fit_is_refused_before_anything_is_assembled(model, tokenizer, counting, trainer):
    task = counting(Decoding(60))

    with pytest.raises(DataError, match="window of 64"):
        evaluator_of(model, tokenizer, task, trainer, ["test"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lightning_leaves_dtype_and_place_of_the_weights_alone(model, tokenizer, counting, trainer, dtype):
    model.to(dtype)
    places = [parameter.data_ptr() for parameter in model.parameters()]
    evaluator = evaluator_of(model, tokenizer, counting(), trainer, ["search"])

    evaluator.evaluate(recipe(1), Portion("search"))

    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert [parameter.data_ptr() for parameter in model.parameters()] == places


def test_the_weights_stay_on_the_device_between_two_candidates(evaluator, model):
    evaluator._module.model = model
    module = evaluator._module.to("meta")  # a device that is not the CPU, wherever the test runs

    evaluator._trainer.strategy._lightning_module = module
    evaluator._trainer.strategy.teardown()

    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}


def test_an_interrupt_during_an_evaluation_reaches_our_handler_and_the_evaluation_ends(evaluator, monkeypatch):
    received = []
    generate = evaluator._module.generator.generate

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        return generate(*arguments)

    def handler(number, _frame):
        received.append(number)

    before = signal.signal(signal.SIGINT, handler), signal.signal(signal.SIGTERM, handler)
    try:
        monkeypatch.setattr(evaluator._module.generator, "generate", interrupted)
        evaluation = evaluator.evaluate(recipe(1), Portion("search"))
        kept = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])

    assert len(evaluation.completions) == 7
    assert received == [signal.SIGINT, signal.SIGTERM]
    assert kept == (handler, handler)


def test_lightning_says_nothing_and_leaves_no_files(evaluator, capfd, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.NOTSET), warnings.catch_warnings(record=True) as warned:
        for seed in (1, 2):
            evaluator.evaluate(recipe(seed), Portion("search"))

    out, err = capfd.readouterr()
    assert (out, err, caplog.messages, [str(w.message) for w in warned]) == ("", "", [], [])
    assert list(tmp_path.iterdir()) == []


class Remembering:
    """Drafts that are what the last evaluation answered."""

    def __init__(self):
        self.texts = ()

    def of(self, recipe, portion, n_examples):
        return [(text,) for text in self.texts] or [()] * n_examples


def test_drafts_reach_the_generator_and_change_no_answer(model, tokenizer, counting, trainer):
    generator = HuggingFaceGenerator(batch_size=3, token_budget=None, degenerate=None, drafts=True)
    evaluator = Evaluator(Drawing(model), tokenizer, counting(), generator, trainer, ["search"], WINDOW)
    before = evaluator.evaluate(recipe(1), Portion("search"))
    drafts = Remembering()
    evaluator.use_drafts(drafts)
    without = evaluator.evaluate(recipe(1), Portion("search"))
    drafts.texts = before.completions
    after = evaluator.evaluate(recipe(1), Portion("search"))

    assert before.completions == without.completions == after.completions
    assert before.cost.n_drafted == without.cost.n_drafted == 0
    assert after.cost.n_accepted > after.cost.new_tokens / 2
    assert after.cost.new_tokens == before.cost.new_tokens


def test_a_generator_with_an_engine_of_its_own_is_given_each_candidates_weights(model, tokenizer, counting, trainer, evaluator):
    generator = Copying(model)
    assert isinstance(generator, LoadsWeights)
    own = Evaluator(Drawing(model), tokenizer, counting(), generator, trainer, ["search"], WINDOW)

    answers = [own.evaluate(recipe(seed), Portion("search")).completions for seed in (1, 13, 2)]

    assert answers == [evaluator.evaluate(recipe(seed), Portion("search")).completions for seed in (1, 13, 2)]
    assert generator.loaded == [recipe(1), recipe(2)]  # 13 cannot be built
    assert answers[0] != answers[2]
