import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from evo_merge.errors import ConfigError, UnusableCandidateError
from evo_merge.evaluation import answers as answers_module
from evo_merge.evaluation.hf import HuggingFaceGenerator
from evo_merge.evaluation.prompts import render_split
from evo_merge.tasks.base import Decoding

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64, "eos_token_id": 2}
OTHERS = {
    "mistral, sliding": lambda: MistralForCausalLM(
        MistralConfig(**SMALL, intermediate_size=32, num_key_value_heads=1, sliding_window=6, pad_token_id=0)
    ),
    "qwen2, tied": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SMALL, intermediate_size=32, num_key_value_heads=2, tie_word_embeddings=True, pad_token_id=0)
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=64, n_positions=64, eos_token_id=2, pad_token_id=0)
    ),
    "bloom, no positions": lambda: BloomForCausalLM(
        BloomConfig(hidden_size=16, n_layer=2, n_head=2, vocab_size=64, eos_token_id=2, pad_token_id=0)
    ),
}


def generator_of(batch_size, token_budget=None, degenerate=None, drafts=False):
    return HuggingFaceGenerator(batch_size=batch_size, token_budget=token_budget, degenerate=degenerate, drafts=drafts)


def answers(model, tokenizer, task, batch_size=4):
    """Token ids and texts, in the order of the examples."""
    generator = generator_of(batch_size)
    rows = {}
    for batch in render_split(task, "search", tokenizer, None, 4, is_packed=True):
        completions = generator.generate(model, tokenizer, batch)
        assert completions.positions == batch.positions
        rows |= dict(zip(batch.positions, zip(completions.token_ids, completions.texts, strict=True), strict=True))
    return [rows[position] for position in sorted(rows)]


def reference(model, tokenizer, task, batch_size=4):
    """The token ids of model.generate on the same batches, each with its end-of-sequence token."""
    end = model.generation_config.eos_token_id
    ends = end if isinstance(end, list) else [end]
    rows = {}
    for batch in render_split(task, "search", tokenizer, None, batch_size):
        output = model.generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            do_sample=False,
            max_new_tokens=task.decoding.max_new_tokens,
        )
        for position, ids in zip(batch.positions, output[:, batch.input_ids.shape[1] :].tolist(), strict=True):
            n = next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
            rows[position] = tuple(ids[:n])
    return [rows[position] for position in sorted(rows)]


def common_tokens(model, tokenizer, task):
    """The tokens that greedy answers hold most often: as ends of sequence they end rows at different steps."""
    flat = [token for ids, _ in answers(model, tokenizer, task) for token in ids]
    return sorted(set(flat), key=lambda token: -flat.count(token))[:3]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_tokens_are_those_of_generate(model, tokenizer, counting, batch_size):
    task = counting(Decoding(30), n_examples=12)

    ours = [ids for ids, _ in answers(model, tokenizer, task, batch_size)]

    assert ours == reference(model, tokenizer, task, batch_size)
    assert len(set(ours)) == len(ours)  # the fixture's answers differ, else equality would say little


@pytest.mark.parametrize("name", OTHERS)
def test_tokens_are_those_of_generate_in_other_architectures(name, vary_weights, tokenizer, counting):
    torch.manual_seed(0)
    model = OTHERS[name]()
    vary_weights(model)
    task = counting(Decoding(20), n_examples=12)

    assert [ids for ids, _ in answers(model, tokenizer, task)] == reference(model, tokenizer, task)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_repeats_itself_and_begins_as_generate_does(model, tokenizer, counting, dtype):
    model.to(dtype)
    task = counting(Decoding(20))

    first = answers(model, tokenizer, task)

    assert first == answers(model, tokenizer, task)
    # Later another order of the sums may tip near ties, which are common in half precision.
    assert [ids[0] for ids, _ in first] == [ids[0] for ids in reference(model, tokenizer, task)]


def test_each_of_several_end_tokens_ends_a_row(model, tokenizer, counting):
    task = counting(Decoding(30), n_examples=12)
    model.generation_config.eos_token_id = common_tokens(model, tokenizer, task)

    ours = [ids for ids, _ in answers(model, tokenizer, task)]

    assert ours == reference(model, tokenizer, task)
    assert len({len(ids) for ids in ours}) > 2
    assert min(len(ids) for ids in ours) < 30


def test_no_end_token_means_every_row_goes_to_the_limit(model, tokenizer, counting):
    model.generation_config.eos_token_id = None

    assert {len(ids) for ids, _ in answers(model, tokenizer, counting(Decoding(9)))} == {9}


def test_special_tokens_are_not_part_of_the_text(model, tokenizer, counting):
    with torch.no_grad():
        model.lm_head.weight[2] = 50 * model.lm_head.weight.abs().max()  # </s> wins or loses by far
    model.generation_config.eos_token_id = None

    rows = answers(model, tokenizer, counting())

    assert any(2 in ids for ids, _ in rows)
    assert not any("</s>" in text for _, text in rows)


def test_the_text_ends_before_the_first_stop_string(model, tokenizer, counting):
    free = answers(model, tokenizer, counting(Decoding(20)))
    stop = (" " + free[0][1].split()[5], " " + free[1][1].split()[9])

    stopped = answers(model, tokenizer, counting(Decoding(20, stop)))

    for (free_ids, free_text), (ids, text) in zip(free, stopped, strict=True):
        starts = [free_text.find(s) for s in stop if s in free_text]
        assert text == free_text[: min(starts, default=len(free_text))]
        assert ids == free_ids[: len(ids)]
    assert len(stopped[0][0]) <= 6


@pytest.mark.parametrize("every", [1, 2, 5, 8, 100])
def test_answers_do_not_depend_on_when_stop_strings_are_looked_for(model, tokenizer, counting, monkeypatch, every):
    free = answers(model, tokenizer, counting(Decoding(30), n_examples=12))
    words = [text.split() for _, text in free]
    # A stop string across three tokens, one that only begins and ends inside words, and a plain word.
    task = counting(Decoding(30, (" ".join(words[0][4:7]), words[3][7][1:] + " w", words[5][2])), n_examples=12)
    expected = answers(model, tokenizer, task)
    assert expected != free

    monkeypatch.setattr(answers_module, "LOOK_EVERY", every)

    assert answers(model, tokenizer, task) == expected


def test_the_batch_ends_when_all_rows_have(model, tokenizer, counting):
    task = counting(Decoding(40, (" w",)))  # the second word's beginning ends every row
    n_steps = 0

    def count(*_: object) -> None:
        nonlocal n_steps
        n_steps += 1

    model.register_forward_hook(count)

    answers(model, tokenizer, task, batch_size=16)

    assert n_steps <= 1 + answers_module.LOOK_EVERY  # the prompts', then one a token


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_make_the_candidate_unusable(model, tokenizer, counting, bad):
    with torch.no_grad():
        model.lm_head.weight[7, 0] = bad

    with pytest.raises(UnusableCandidateError, match="logits are not finite at new token 1"):
        answers(model, tokenizer, counting())


@pytest.mark.parametrize("every", [1, 3, 8])
def test_what_comes_after_a_stop_string_may_be_anything(model, tokenizer, counting, monkeypatch, every):
    task = counting(Decoding(20), n_examples=1)
    ((ids, text),) = answers(model, tokenizer, task)
    assert len(set(ids[:4])) == 4  # else the stop string or the broken token comes earlier
    task.decoding = Decoding(20, (text.split()[2],))
    with torch.no_grad():
        model.model.embed_tokens.weight[ids[3]] = float("nan")  # read only after the stop string's token
    monkeypatch.setattr(answers_module, "LOOK_EVERY", every)

    assert answers(model, tokenizer, task) == [(ids[:3], " ".join(text.split()[:2]) + " ")]


def test_a_batch_of_no_rows_is_refused():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        generator_of(0)
