"""vLLM's answers against ours. ``EVO_MERGE_VLLM_PYTHON`` may name the Python of another environment, which has vLLM."""

import importlib.util
import os
import signal
import threading
from contextlib import contextmanager

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from evo_merge.errors import ConfigError, UnusableCandidateError
from evo_merge.evaluation.degenerate import Repetition
from evo_merge.evaluation.hf import HuggingFaceGenerator
from evo_merge.evaluation.likelihood import LikelihoodBatch, ScoredTokens
from evo_merge.evaluation.prompts import render_split
from evo_merge.evaluation.vllm import generator as vllm_generator
from evo_merge.evaluation.vllm.engine import interpreter
from evo_merge.evaluation.vllm.generator import VLLMGenerator
from evo_merge.models.shared_layers import SharedLayers
from evo_merge.recipe import DataFlowRecipe, ModelReference, ParameterRule, ParameterSpaceRecipe, Source, Step
from evo_merge.tasks.base import Decoding

PYTHON = os.environ.get("EVO_MERGE_VLLM_PYTHON")
HAS_VLLM = PYTHON is not None or importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(
    not HAS_VLLM, reason="vLLM is not installed: make vllm, or EVO_MERGE_VLLM_PYTHON=.venv-vllm/bin/python"
)
NGRAM = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3, "prompt_lookup_min": 1}
N_WORDS = 60


def recipe(seed):
    """Stands for weights that are drawn from the seed."""
    sources = (Source("a", ModelReference(model="a")),)
    return ParameterSpaceRecipe(None, sources, "linear", {}, (ParameterRule(("*",), {}),), seed, "float32", "float32")


def pico(seed, n_layers=2):
    """A model with heads of a size that vLLM's CPU kernels know; its answers differ from prompt to prompt."""
    config = LlamaConfig(
        vocab_size=N_WORDS + 4,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=n_layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=60,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    draw(model, seed)
    return model


def draw(model, seed):
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=chance) * 0.3)


def generator_of(**settings):
    settings = {
        "batch_size": 16,
        "cache_gigabytes": 0.1,
        "window": None,
        "speculation": NGRAM,
        "degenerate": None,
        "tolerance": None,
    } | settings
    return VLLMGenerator(python=PYTHON, **settings)


@pytest.fixture(scope="module")
def engine():
    """One generator, and so one engine, for the tests that do not break it."""
    if not HAS_VLLM:
        pytest.skip("vLLM is not installed")
    generator = generator_of()
    yield generator
    generator.release()


def batch_of(task, tokenizer):
    (batch,) = render_split(task, "search", tokenizer, None, 16, is_packed=True)
    return batch


def equal_to_hf(generator, model, tokenizer, task, degenerate=None):
    """Whether all answers are those of hf, which are not all alike."""
    batch = batch_of(task, tokenizer)
    ours = generator.generate(model, tokenizer, batch)
    theirs = HuggingFaceGenerator(batch_size=16, degenerate=degenerate).generate(model, tokenizer, batch)
    assert len(set(theirs.token_ids)) > 6
    return ours == theirs


@needs_vllm
def test_answers_are_those_of_hf_and_follow_the_weights(engine, tokenizer, counting):
    model, task = pico(1), counting(Decoding(20), n_examples=12)
    answered = []
    for seed in (1, 2, 3):
        draw(model, seed)
        engine.load(recipe(seed), model, tokenizer, lambda: iter(model.named_parameters()))
        assert equal_to_hf(engine, model, tokenizer, task)
        answered.append((engine.serving.process_id, engine.generate(model, tokenizer, batch_of(task, tokenizer))))

    assert len({process for process, _ in answered}) == 1
    assert len({each.token_ids for _, each in answered}) == 3
    assert engine.counters["spec_decode_num_draft_tokens"] > 0


@needs_vllm
def test_stop_strings_and_end_tokens_end_answers_where_hf_ends_them(engine, tokenizer, counting):
    model = pico(4)
    engine.load(recipe(4), model, tokenizer, lambda: iter(model.named_parameters()))
    batch = batch_of(counting(Decoding(30), n_examples=12), tokenizer)
    free = engine.generate(model, tokenizer, batch)
    words = sorted((text.split() for text in free.texts), key=len)[::-1]  # the longest first
    # A stop string across two tokens, one that only begins inside a word, a plain one.
    stop = (" ".join(words[0][4:6]), words[1][7][1:] + " w", words[2][2])

    assert equal_to_hf(engine, model, tokenizer, counting(Decoding(30, stop), n_examples=12))

    model.generation_config.eos_token_id = [free.token_ids[0][5], max(free.token_ids, key=len)[9]]
    assert equal_to_hf(engine, model, tokenizer, counting(Decoding(30), n_examples=12))


@needs_vllm
def test_continuations_are_as_probable_as_in_the_model(engine, tokenizer):
    model = pico(9)
    engine.load(recipe(9), model, tokenizer, lambda: iter(model.named_parameters()))
    with torch.no_grad():
        chances = model(torch.tensor([[1, 5, 9]])).logits[0].log_softmax(-1)
    best = int(chances[2].argmax())

    pairs = [((1, 5), (9, best)), ((1, 5, 9), (best,)), ((1, 5, 9), ((best + 1) % 64,))]

    found = engine.likelihoods(model, tokenizer, LikelihoodBatch(tuple(ScoredTokens(0, 0, *pair) for pair in pairs)))

    expected = [chances[1, 9] + chances[2, best], chances[2, best], chances[2, (best + 1) % 64]]
    assert [each.total for each in found] == pytest.approx([float(each) for each in expected], abs=1e-4)
    assert [each.is_greedy for each in found] == [int(chances[1].argmax()) == 9, True, False]


@needs_vllm
def test_answers_that_repeat_themselves_are_given_up_where_hf_gives_them_up(tokenizer, counting, monkeypatch):
    monkeypatch.setattr(vllm_generator, "_ROUND", 7)  # so that answers are in several
    rule = Repetition(period=4, times=2, tokens=3)
    model, generator = pico(4), generator_of(degenerate=rule)
    generator.load(recipe(4), model, tokenizer, lambda: iter(model.named_parameters()))
    task = counting(Decoding(40, ("w7 w",)), n_examples=12)

    assert equal_to_hf(generator, model, tokenizer, task, rule)

    answers = generator.generate(model, tokenizer, batch_of(task, tokenizer))
    generator.release()
    assert 0 < answers.n_degenerate < 12
    assert max(map(len, answers.token_ids)) > 7


@pytest.mark.slow
@needs_vllm
def test_weights_that_did_not_arrive_fail_the_candidate_and_not_the_next(engine, tokenizer, counting):
    model, task = pico(5), counting(Decoding(20), n_examples=12)
    engine.load(recipe(5), model, tokenizer, lambda: iter(model.named_parameters()))
    assert equal_to_hf(engine, model, tokenizer, task)
    draw(model, 6)
    left_out = "model.layers.1.mlp.gate_proj.weight"  # one half of a packed projection
    stale = dict(pico(5).named_parameters())[left_out]
    engine.load(
        recipe(6),
        model,
        tokenizer,
        lambda: ((name, stale if name == left_out else tensor) for name, tensor in model.named_parameters()),
    )
    with pytest.raises(UnusableCandidateError, match=r"failed twice.*does not compute what the candidate computes"):
        engine.generate(model, tokenizer, batch_of(task, tokenizer))

    engine.load(recipe(7), model, tokenizer, lambda: iter(model.named_parameters()))
    assert equal_to_hf(engine, model, tokenizer, task)


@needs_vllm
def test_an_engine_that_never_computed_what_a_candidate_computes_ends_the_run(tokenizer, counting):
    model, generator = pico(5), generator_of()
    other = pico(6)
    generator.load(recipe(5), model, tokenizer, lambda: iter(other.named_parameters()))
    with pytest.raises(ConfigError, match=r"does not compute what the candidate computes.*generator=hf"):
        generator.generate(model, tokenizer, batch_of(counting(Decoding(5)), tokenizer))
    assert generator.serving.process_id is None


@needs_vllm
def test_an_answer_that_the_window_would_cut_is_refused_and_the_engine_goes_on(engine, tokenizer, counting):
    model = pico(5)
    engine.load(recipe(5), model, tokenizer, lambda: iter(model.named_parameters()))
    with pytest.raises(ConfigError, match=r"a window of 60 tokens leaves 0 for a prompt.*one has 13"):
        engine.generate(model, tokenizer, batch_of(counting(Decoding(10**6)), tokenizer))

    assert equal_to_hf(engine, model, tokenizer, counting(Decoding(20), n_examples=12))


@needs_vllm
def test_logits_that_are_not_finite_fail_the_candidate_and_not_the_engine(engine, tokenizer, counting):
    model = pico(7)
    batch = batch_of(counting(Decoding(5)), tokenizer)
    with torch.no_grad():
        model.lm_head.weight[3] = torch.nan
    engine.load(recipe(7), model, tokenizer, lambda: iter(model.named_parameters()))
    with pytest.raises(UnusableCandidateError, match="not finite"):
        engine.generate(model, tokenizer, batch)

    draw(model, 8)
    engine.load(recipe(8), model, tokenizer, lambda: iter(model.named_parameters()))
    assert equal_to_hf(engine, model, tokenizer, counting(Decoding(20), n_examples=12))


@pytest.mark.slow
@needs_vllm
def test_paths_run_folded_and_shallower_ones_in_the_engine_of_deeper_ones(tokenizer, counting):
    models = {"a": pico(1), "b": pico(2)}

    class Resident(SharedLayers):
        def _module(self, name, reference, recipe):
            return models[name]

    layers = Resident(None, torch.device("cpu"))
    sources = tuple(Source(name, ModelReference(model=name)) for name in models)
    long = (Step("a", 0, 1.0), Step("b", 1, 0.7), Step("a", 1, 1.2), Step("a", 1, 1.1))
    generator, task, processes = generator_of(), counting(Decoding(12), n_examples=12), []
    for path in (long[:3], long[:2], long):
        found = DataFlowRecipe(sources, path, "residual", "float32")
        model = layers.model(found)
        model.generation_config = models["a"].generation_config
        generator.load(found, model, tokenizer, lambda found=found: layers.folded(found))
        assert equal_to_hf(generator, model, tokenizer, task)
        processes.append(generator.serving.process_id)
    generator.release()

    assert processes[0] == processes[1] != processes[2]


@contextmanager
def killing_engines(generator):
    """Kill every engine as soon as it is there; gives their process ids."""
    killed, is_over = set(), threading.Event()

    def kill():
        while not is_over.wait(0.001):
            process = generator.serving.process_id
            if process not in (None, *killed):
                killed.add(process)
                os.kill(process, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


@pytest.mark.slow
@needs_vllm
def test_an_engine_that_dies_is_started_again_once_and_then_the_candidate_fails(tokenizer, counting):
    model, task = pico(1), counting(Decoding(20), n_examples=12)
    generator = generator_of()
    generator.load(recipe(1), model, tokenizer, lambda: iter(model.named_parameters()))
    assert equal_to_hf(generator, model, tokenizer, task)
    first = generator.serving.process_id
    os.kill(first, signal.SIGKILL)

    assert equal_to_hf(generator, model, tokenizer, task)
    assert generator.serving.process_id not in (None, first)

    draw(model, 2)

    def killing():
        yield from model.named_parameters()
        if generator.serving.process_id is not None:
            os.kill(generator.serving.process_id, signal.SIGKILL)  # before the weights reach it

    generator.load(recipe(2), model, tokenizer, killing)
    # The first death is that of the running engine; the second engine starts with the weights in place, and lives.
    assert equal_to_hf(generator, model, tokenizer, task)

    draw(model, 3)
    generator.load(recipe(3), model, tokenizer, lambda: iter(model.named_parameters()))
    with killing_engines(generator) as killed, pytest.raises(UnusableCandidateError, match=r"failed twice.*signal 9"):
        generator.generate(model, tokenizer, batch_of(task, tokenizer))
    assert len(killed) == 2
    assert generator.serving.process_id is None


def test_without_vllm_one_sentence_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'evo-merge\[vllm\]'"):
        interpreter(None)
    with pytest.raises(ConfigError, match="cannot be run"):
        interpreter(str(tmp_path / "python"))


def test_without_vllm_a_run_ends_with_one_sentence(command, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name == "vllm" else found(name, *of))

    ended = command("generator=vllm", "hydra.run.dir=run")

    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "generator=vllm needs vLLM, which is not installed here" in ended.err
    assert "make vllm" in ended.err


@pytest.mark.parametrize(("name", "value"), [("batch_size", 0), ("cache_gigabytes", 0.0), ("window", 1), ("tolerance", 0)])
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"generator.{name} must be"):
        generator_of(**{name: value})


class UnheardOfForCausalLM(LlamaForCausalLM):
    """An architecture that vLLM does not know."""


@needs_vllm
@pytest.mark.parametrize(
    ("kind", "window", "said"),
    [(LlamaForCausalLM, 10**6, "max_model_len"), (UnheardOfForCausalLM, None, "UnheardOfForCausalLM")],
)
def test_a_model_that_vllm_cannot_run_is_refused_in_one_sentence(tokenizer, counting, kind, window, said):
    model = pico(1)
    model.__class__ = kind
    generator = generator_of(window=window)
    generator.load(recipe(1), model, tokenizer, lambda: iter(model.named_parameters()))
    with pytest.raises(ConfigError, match=rf"vLLM cannot run these models.*{said}.*generator=hf"):
        generator.generate(model, tokenizer, batch_of(counting(Decoding(5)), tokenizer))
    generator.release()
