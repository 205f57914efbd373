"""Likelihoods of continuations: those of a plain forward pass, of any batch, and of the public harness."""

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evo_merge.errors import ConfigError, DataError, UnusableCandidateError
from evo_merge.evaluation.hf import HuggingFaceGenerator
from evo_merge.evaluation.likelihood import ScoredBatch, batches, gather, only, tokenize
from evo_merge.tasks.base import Example, Likelihoods

FAMILY = Path(__file__).parents[2] / "src" / "evo_merge" / "models" / "tiny" / "tiny_ja_math"
# Continuations of one token and of several that share a context, empty contexts, spaces at the seam, Japanese, other contexts.
PAIRS = (
    ("りんごが3個、", "みかんが4個あります。"),
    ("りんごが3個、", "みかんが5個あります。"),
    ("りんごが3個あります。何個ですか。", "3"),
    ("りんごが3個あります。何個ですか。", "4"),
    ("りんごが3個あります。何個ですか。", "12"),
    ("", "りんごが3個あります。"),
    ("", "3"),
    ("There are 3 apples. ", "How many?"),
    ("There are 3 apples.\n", " 7"),
    ("   ", "3個"),
    ("<s>りんご", "が5個"),
)


@pytest.fixture(scope="module")
def tiny():
    return AutoModelForCausalLM.from_pretrained(FAMILY / "ja", dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def words():
    return AutoTokenizer.from_pretrained(FAMILY / "ja")


def scored_of(pairs, tokenizer, window=None):
    return tokenize([(0, Example("a", "", ""), Likelihoods(tuple(pairs)))], "search", tokenizer, window)


def answers(pairs, model, tokenizer, batch_size=4, window=None):
    generator = HuggingFaceGenerator(batch_size=batch_size)
    made = batches(scored_of(pairs, tokenizer, window), batch_size)
    return gather([ScoredBatch(batch.scored, generator.likelihoods(model, tokenizer, batch)) for batch in made])[0]


def plainly(model, context, continuation):
    """The sum over the continuation's tokens, one row, every logit."""
    ids = torch.tensor([[*context, *continuation]])
    with torch.inference_mode():
        chances = model(input_ids=ids).logits[0].log_softmax(dim=-1)
    return sum(float(chances[len(context) - 1 + i, token]) for i, token in enumerate(continuation))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_likelihoods_are_those_of_a_plain_forward_pass(tiny, words, batch_size):
    found = answers(PAIRS, tiny, words, batch_size)

    for (context, continuation), each in zip(PAIRS, found, strict=True):
        # A text that begins with BOS keeps its own; spaces that end the context are the continuation's.
        bos = [] if context.startswith("<s>") else [words.bos_token_id]
        before = bos + words.encode(context.rstrip(), add_special_tokens=False)
        after = (bos + words.encode(context + continuation, add_special_tokens=False))[len(before) :]
        assert each.n_tokens == len(after)
        assert each.total == pytest.approx(plainly(tiny, before, after), abs=1e-4)
    assert len({round(each.total, 3) for each in found}) > 5


def test_what_greedy_decoding_would_give_is_greedy_and_nothing_else_is(tiny, words):
    context = "りんごが3個、みかんが4個あります。"
    ids = words(context, return_tensors="pt").input_ids
    more = tiny.generate(ids, do_sample=False, max_new_tokens=5)[0, ids.shape[1] :]
    text = words.decode(more, skip_special_tokens=True)

    greedy, other = answers(((context, text), (context, text + "りんご")), tiny, words)

    assert greedy.is_greedy
    assert not other.is_greedy


def test_continuations_that_differ_in_their_last_token_share_a_row(words):
    scored = scored_of(PAIRS[2:4], words)

    (batch,) = batches(scored, batch_size=1)

    assert len(batch.scored) == 2
    assert len(batch.texts) == 1


def test_every_continuation_is_in_one_batch_the_longest_first(words):
    scored = scored_of(PAIRS, words)

    made = batches(scored, batch_size=2)

    assert sorted(each.pair for batch in made for each in batch.scored) == list(range(len(PAIRS)))
    assert all(len(batch.texts) <= 2 for batch in made)
    lengths = [len(read) for batch in made for read in batch.texts]
    assert lengths == sorted(lengths, reverse=True)


def test_logits_of_long_texts_are_not_all_kept_at_once(words):
    scored = scored_of([(None, f"{i}個" * 500) for i in range(4)], words, window=None)

    assert len(batches(scored, batch_size=64)) >= 2


def test_a_long_text_is_summed_over_windows_and_each_token_counts_once(tiny, words):
    text = "りんごが3個、みかんが4個あります。" * 20
    tokens = words.encode(text)

    (whole,) = answers([(None, text)], tiny, words)
    (cut,) = answers([(None, text)], tiny, words, window=48)
    scored = scored_of([(None, text)], words, window=48)

    assert whole.n_tokens == cut.n_tokens == len(tokens)
    assert [token for each in scored for token in each.continuation] == tokens
    assert all(len(each.read) == 48 for each in scored)
    expected = sum(plainly(tiny, each.context, each.continuation) for each in scored)
    assert cut.total == pytest.approx(expected, abs=1e-3)
    assert cut.total != pytest.approx(whole.total, abs=1e-2)


def test_some_examples_are_counted_from_0(words):
    scored = tokenize(
        [(i, Example(str(i), "", ""), Likelihoods(((f"{i}", "個"),))) for i in range(4)], "search", words, window=None
    )

    some = only(scored, (3, 1))

    assert {each.position: words.decode(each.context) for each in some} == {
        0: words.decode(scored[3].context),
        1: words.decode(scored[1].context),
    }


def test_messages_stand_before_a_continuation_with_the_special_tokens_of_their_template(words, monkeypatch):
    monkeypatch.setattr(words, "chat_template", "{% for m in messages %}{{ m.content }}{% endfor %}。")

    (each,) = scored_of([([{"role": "user", "content": "りんご"}], "3個")], words)

    assert each.context == tuple(words.encode("りんご。", add_special_tokens=False))
    monkeypatch.setattr(words, "chat_template", None)
    with pytest.raises(ConfigError, match="no chat template"):
        scored_of([([{"role": "user", "content": "りんご"}], "3個")], words)


def test_what_does_not_fit_the_window_is_refused_by_name(words):
    with pytest.raises(DataError, match=r"1 of 1 examples of the 'search' split are too long: .* window is 12 tokens, and 'a'"):
        scored_of([("りんご" * 30, "3")], words, window=12)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((), "at least one continuation"),
        ((("りんご", ""),), "continuation 1 of 'a' .'search' split. has no tokens of its own: ''"),
        ((("りんご", "3"), ("", "")), "continuation 2 of 'a'"),
    ],
)
def test_nothing_to_compare_is_refused(words, pairs, message):
    with pytest.raises(DataError, match=message):
        scored_of(pairs, words)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_likelihood_that_is_not_finite_makes_the_candidate_unusable(model, tokenizer, bad):
    with torch.no_grad():
        model.lm_head.weight[7, 0] = bad

    with pytest.raises(UnusableCandidateError, match="not finite"):
        answers((("w1 w2", " w3"),), model, tokenizer)


def test_likelihoods_are_those_of_the_public_harness(tiny, words):
    if importlib.util.find_spec("lm_eval") is None:
        pytest.skip("lm_eval is not installed")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=tiny, tokenizer=words, batch_size=3, max_length=48)
    pairs = [pair for pair in PAIRS if pair[0].strip() or not pair[0]]  # it knows no context of spaces only
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    theirs = harness.loglikelihood(requests, disable_tqdm=True)
    ours = answers(pairs, tiny, words, window=48)

    assert [each.is_greedy for each in ours] == [greedy for _, greedy in theirs]
    assert [each.total for each in ours] == pytest.approx([total for total, _ in theirs], abs=1e-4)

    texts = ["りんごが3個、みかんが4個あります。" * n for n in (1, 5, 20)]
    rolled = harness.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (t,), i) for i, t in enumerate(texts)])
    own = answers([(None, text) for text in texts], tiny, words, window=48)
    assert [each.total for each in own] == pytest.approx(rolled, abs=1e-3)
