import pytest
import torch

from evo_merge.errors import ConfigError, DataError
from evo_merge.evaluation.prompts import render_split
from evo_merge.tasks.base import Decoding

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }} {{ message.content }} {% endfor %}"
    "{% if add_generation_prompt %}w59{% endif %}"
)


def test_rows_are_the_tokenizers_own_and_padded_on_the_left(tokenizer, counting):
    rendered = render_split(counting(), "search", tokenizer, window=64, batch_size=3)

    for batch in rendered:
        for position, ids, mask in zip(batch.positions, batch.input_ids, batch.attention_mask, strict=True):
            expected = tokenizer(rendered.examples[position].question)["input_ids"]
            assert expected[0] == tokenizer.bos_token_id
            assert ids[mask.bool()].tolist() == expected
            assert mask.tolist() == sorted(mask.tolist())  # zeros, then ones


def test_every_example_is_in_one_batch_the_longest_first(tokenizer, counting):
    rendered = render_split(counting(n_examples=12), "search", tokenizer, window=64, batch_size=5)

    assert len(rendered) == 3
    assert sorted(p for batch in rendered for p in batch.positions) == list(range(12))
    lengths = [int(n) for batch in rendered for n in batch.attention_mask.sum(dim=1)]
    assert lengths == sorted(lengths, reverse=True)
    assert [batch.input_ids.shape[1] for batch in rendered] == [
        int(batch.attention_mask.sum(dim=1).max()) for batch in rendered
    ]


def test_some_examples_keep_their_rows_and_count_from_0(tokenizer, counting):
    rendered = render_split(counting(n_examples=12), "search", tokenizer, window=64, batch_size=2)

    some = rendered.only((10, 2, 5))

    assert [example.id for example in some.examples] == ["search/10", "search/2", "search/5"]
    assert some.rows == tuple(rendered.rows[i] for i in (10, 2, 5))
    assert [batch.positions for batch in some] == [(2, 0), (1,)]  # 6 words, 1 and 12: the longest first
    assert rendered.only(None) is rendered


def test_a_limit_given_as_texts_is_counted_in_the_tokenizers_tokens(tokenizer, counting):
    task = counting(Decoding(2, ("w9",), as_long_as=("w1", "w1 w2 w3")), n_examples=1)

    (batch,) = render_split(task, "search", tokenizer, window=64, batch_size=4)

    assert batch.decoding == Decoding(5, ("w9",))  # w1 w2 w3 without the BOS, and two more


def test_messages_go_through_the_chat_template(tokenizer, counting, monkeypatch):
    task = counting(n_examples=1)
    monkeypatch.setattr(task, "prompt", lambda example: [{"role": "w1", "content": "w2 w3"}], raising=False)
    monkeypatch.setattr(tokenizer, "chat_template", CHAT_TEMPLATE)

    (batch,) = render_split(task, "search", tokenizer, window=64, batch_size=4)

    assert tokenizer.convert_ids_to_tokens(batch.input_ids[0].tolist()) == ["w1", "w2", "w3", "w59"]


def test_messages_without_a_chat_template_are_refused(tokenizer, counting, monkeypatch):
    task = counting()
    monkeypatch.setattr(task, "prompt", lambda example: [{"role": "user", "content": "w2"}], raising=False)

    with pytest.raises(ConfigError, match="no chat template"):
        render_split(task, "search", tokenizer, window=64, batch_size=4)


def test_prompts_longer_than_the_window_are_counted_and_the_first_is_named(tokenizer, counting):
    # Of lengths 3, 9, 1, 5, 5, 12, 2 words and one <s> each, those of 9 and 12 leave no room for 12 of 21.
    with pytest.raises(DataError, match=r"2 of 7 prompts of the 'search' split .* leaves 9 .* 'search/1' has 10"):
        render_split(counting(Decoding(12)), "search", tokenizer, window=21, batch_size=4)


def test_a_prompt_that_just_fits_is_taken(tokenizer, counting):
    assert len(render_split(counting(Decoding(12)), "search", tokenizer, window=25, batch_size=4).examples) == 7


def test_a_model_without_a_window_takes_any_prompt(tokenizer, counting):
    assert len(render_split(counting(Decoding(10_000)), "search", tokenizer, window=None, batch_size=4).examples) == 7


def test_an_empty_split_is_named(tokenizer, counting):
    with pytest.raises(DataError, match="'counting' has no examples in its 'validation' split"):
        render_split(counting(), "validation", tokenizer, window=64, batch_size=4)


def test_a_prompt_without_tokens_is_named(tokenizer, counting, monkeypatch):
    task = counting()
    monkeypatch.setattr(tokenizer.backend_tokenizer, "post_processor", None)
    monkeypatch.setattr(task, "prompt", lambda example: "" if example.id == "search/3" else "w1", raising=False)

    with pytest.raises(DataError, match="the first is 'search/3'"):
        render_split(task, "search", tokenizer, window=64, batch_size=4)


def test_a_batch_moves_as_a_whole(tokenizer, counting):
    batch = next(iter(render_split(counting(), "search", tokenizer, window=64, batch_size=4)))

    moved = batch.to(torch.device("meta"))

    assert moved.positions == batch.positions
    assert moved.input_ids.device.type == moved.attention_mask.device.type == "meta"
