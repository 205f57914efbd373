import inspect
import itertools

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from evo_merge.evaluation import continuous, hf
from evo_merge.evaluation.continuous import can_answer
from evo_merge.evaluation.degenerate import Repetition
from evo_merge.evaluation.hf import HuggingFaceGenerator
from evo_merge.evaluation.prompts import render_split
from evo_merge.tasks.base import Decoding

TASK = Decoding(30)


def generate(model, tokenizer, task, given=(), **options):
    """The completions of all prompts in one call, by position."""
    (batch,) = render_split(task, "search", tokenizer, None, 4, is_packed=True).drafted(given)
    settings = {"batch_size": 4, "token_budget": None, "degenerate": None, "drafts": True} | options
    found = HuggingFaceGenerator(**settings).generate(model, tokenizer, batch)
    rows = sorted(zip(found.positions, found.token_ids, found.texts, strict=True))
    return [ids for _, ids, _ in rows], [text for *_, text in rows], found


@pytest.fixture
def widths(model):
    """Rows and tokens of every forward pass."""
    seen = []
    model.register_forward_pre_hook(lambda _, __, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True)
    return seen


@pytest.fixture
def ending(model, tokenizer, counting):
    """The model ends rows at different steps: what it says most often are ends of sequence."""
    flat = [token for ids in generate(model, tokenizer, counting(TASK, 12))[0] for token in ids]
    model.generation_config.eos_token_id = sorted(set(flat), key=lambda token: -flat.count(token))[:2]
    return model


@pytest.mark.parametrize("batch_size", [2, 5, 12])
def test_rows_that_are_done_leave_and_others_take_their_place(ending, widths, tokenizer, counting, batch_size):
    alone = generate(ending, tokenizer, counting(TASK, 12), batch_size=1)[0]
    widths.clear()

    assert generate(ending, tokenizer, counting(TASK, 12), batch_size=batch_size)[0] == alone
    steps = [n for n, width in widths if width == 1]
    assert max(steps) <= batch_size
    # Every row is in no more steps than it has tokens, but for those between its end and the look that finds it.
    assert sum(steps) <= sum(map(len, alone)) + 12


def test_a_token_budget_bounds_the_rows_of_a_step(model, widths, tokenizer, counting):
    whole = generate(model, tokenizer, counting(TASK, 12), batch_size=12)[0]
    widths.clear()

    bounded = generate(model, tokenizer, counting(TASK, 12), batch_size=12, token_budget=3 * (13 + 30))[0]

    assert bounded == whole
    assert max(n for n, _ in widths) == 3


def test_a_common_beginning_is_read_once(model, widths, tokenizer, counting, monkeypatch):
    task = counting(TASK, 12)
    beginning = " ".join(f"w{i}" for i in range(20))
    monkeypatch.setattr(task, "prompt", lambda example: f"{beginning} {example.question}", raising=False)
    monkeypatch.setattr(continuous, "_PREFIX", 1000)
    apart = generate(model, tokenizer, task)[0]
    n_apart = sum(n * width for n, width in widths)
    widths.clear()
    monkeypatch.setattr(continuous, "_PREFIX", 8)

    assert generate(model, tokenizer, task)[0] == apart
    assert n_apart - sum(n * width for n, width in widths) >= 11 * 20


@pytest.mark.parametrize("stop", [(), ("w7 ", "w1")])
@pytest.mark.parametrize("batch_size", [1, 4, 12])
def test_drafts_change_no_answer_right_or_wrong(ending, widths, tokenizer, counting, batch_size, stop):
    task = counting(Decoding(30, stop), 12)
    plain, texts, _ = generate(ending, tokenizer, task, batch_size=batch_size)
    n_plain = len(widths)
    words = [text.split() for text in generate(ending, tokenizer, counting(TASK, 12))[1]]
    near = [" ".join([*line[:4], "w9", *line[5:9], *line[11:]]) for line in words]
    kinds = {
        "right": [(" ".join(line),) for line in words],
        "near": [(other,) for other in near],
        "another's": [(texts[i - 1],) for i in range(12)],
        "several": [(texts[i - 1], near[i]) for i in range(12)],
        "none": [() for _ in range(12)],
        "empty": [("",) for _ in range(12)],
    }
    for name, drafts in kinds.items():
        widths.clear()
        ids, again, found = generate(ending, tokenizer, task, given=drafts, batch_size=batch_size)
        assert (ids, again) == (plain, texts), name
        assert 0 <= found.n_accepted <= found.n_drafted
        if name == "right" and batch_size == 1 and not stop:
            assert len(widths) < n_plain / 2
            assert found.n_accepted > sum(map(len, ids)) / 2


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_draft_whose_tokens_are_not_finite_is_a_wrong_draft_and_no_more(ending, tokenizer, counting, batch_size):
    task = counting(TASK, 4)
    plain, texts, _ = generate(ending, tokenizer, task, batch_size=batch_size)
    used = {word for text in [*texts, *(e.question for e in task.examples("search"))] for word in text.split()}
    unused = next(word for word in (f"w{i}" for i in range(60)) if word not in used)
    with torch.no_grad():
        ending.model.embed_tokens.weight[tokenizer.convert_tokens_to_ids(unused)] = torch.nan
    drafts = [(" ".join([*text.split()[:2], unused, *text.split()[2:]]),) for text in texts]

    ids, again, found = generate(ending, tokenizer, task, given=drafts, batch_size=batch_size)

    assert (ids, again) == (plain, texts)
    assert found.n_drafted > found.n_accepted > 0


def test_drafts_go_unused_where_they_are_switched_off(model, tokenizer, counting):
    on = generate(model, tokenizer, counting(TASK, 3), given=[("w1",)] * 3)
    off = generate(model, tokenizer, counting(TASK, 3), given=[("w1",)] * 3, drafts=False)

    assert on[0] == off[0]
    assert on[2].n_drafted > off[2].n_drafted == 0


@pytest.mark.parametrize("fits", [1, 3])
def test_where_memory_ends_half_the_rows_go_on_and_nothing_is_lost(model, widths, tokenizer, counting, monkeypatch, fits):
    alone = generate(model, tokenizer, counting(TASK, 12))[0]
    forward, n_calls = continuous.Loop._forward, itertools.count()

    def limited(self, places, *arguments, **options):
        if len(places) > fits and next(n_calls) >= 9:  # in the middle of the answers
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, places, *arguments, **options)

    monkeypatch.setattr(continuous.Loop, "_forward", limited)
    widths.clear()

    assert generate(model, tokenizer, counting(TASK, 12), batch_size=12)[0] == alone
    assert max(n for n, _ in widths) == 12
    assert widths[-1][0] <= fits


def test_where_not_even_one_row_fits_it_is_said(model, tokenizer, counting, monkeypatch):
    def full(self, *arguments, **options):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(continuous.Loop, "_forward", full)

    with pytest.raises(torch.OutOfMemoryError, match="can't allocate"):
        generate(model, tokenizer, counting(TASK, 3))


def test_other_errors_of_a_pass_are_not_taken_for_memory(model, tokenizer, counting, monkeypatch):
    monkeypatch.setattr(hf, "can_answer", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        generate(model, tokenizer, counting(TASK, 3))


def test_answers_that_repeat_themselves_are_given_up_and_counted(model, tokenizer, counting):
    with torch.no_grad():
        model.lm_head.weight[9] = 0  # every logit is 0 but one, which is the same at every step
        model.lm_head.weight[:9] = model.lm_head.weight[10:] = -1e-3 * model.lm_head.weight[10]
    rule = Repetition(period=3, times=3, tokens=6)
    whole = generate(model, tokenizer, counting(TASK, 6))[0]

    ids, _, found = generate(model, tokenizer, counting(TASK, 6), degenerate=rule)

    assert all(row == longer[: len(row)] for row, longer in zip(ids, whole, strict=True))
    assert found.n_degenerate == sum(len(row) < len(longer) for row, longer in zip(ids, whole, strict=True)) > 0


def test_models_whose_attention_is_not_by_position_alone_are_left_to_the_library(vary_weights):
    def mistral(window):
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64, "intermediate_size": 32}
        return MistralForCausalLM(MistralConfig(**sizes, num_key_value_heads=1, sliding_window=window, pad_token_id=0))

    accepts = frozenset(inspect.signature(MistralForCausalLM.forward).parameters).__contains__

    assert can_answer(mistral(None), 100, accepts)
    assert can_answer(mistral(100), 100, accepts)
    assert not can_answer(mistral(99), 100, accepts)
    assert not can_answer(mistral(None), 100, lambda name: name != "position_ids")
