"""Models of different vocabularies: rows matched by token, against a slow reference; tokenizers that really tokenize.

The reference goes row by row through the rule as mergekit 0.1.5 has it (``mergekit/tokenizer/embed.py``).
``benchmarks/vocabularies.py`` holds the same merges against mergekit itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from evo_merge.baselines import single_model
from evo_merge.errors import ConfigError, ModelError, RecipeError
from evo_merge.findings import refusals
from evo_merge.models.aligned import own_rows
from evo_merge.models.assemble import Assembler
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.compatibility import describe, for_mixing, in_values
from evo_merge.models.merged_tokenizer import union_tokenizer
from evo_merge.models.model import Model
from evo_merge.models.pool import Pool
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, recipe_hash, reference_record, to_yaml
from evo_merge.recipe_file import from_yaml

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
TEXTS = {
    "base": "the cat sat on the mat and the dog ran to the cat",
    "x": "新しい 東京 駅 zwölf größere Züge über größere",
    "y": "the cat counts sums of dogs and sums of cats",
}


def bpe(text: str, begin: str, end: str, *added: AddedToken) -> PreTrainedTokenizerFast:
    """A small byte-level BPE tokenizer, trained on a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[begin, end], initial_alphabet=letters, show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator([text] * 3, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=begin, eos_token=end)
    made.add_tokens(list(added))
    return made


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    """Three tokenizers that share bytes and some words; ``x`` has tokens added in its own way."""
    kept = AddedToken("<think>", lstrip=True, special=False)
    return {
        "base": bpe(TEXTS["base"], "<s>", "</s>"),
        "x": bpe(TEXTS["x"], "<|x|>", "</s>", kept, AddedToken("<tool>", special=True)),
        "y": bpe(TEXTS["y"], "<s>", "<end>"),
    }


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, save_pico: Callable[..., Path], tokenizers: dict[str, PreTrainedTokenizerFast]
) -> Path:
    """``base`` with 4 rows that no token has, ``x``, and ``y`` with 2; not to be changed."""
    folder = tmp_path_factory.mktemp("vocabularies")
    for seed, (name, padding) in enumerate((("base", 4), ("x", 0), ("y", 2))):
        tokenizer = tokenizers[name]
        ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        save_pico(folder / name, seed, tokenizer=tokenizer, vocab_size=len(tokenizer) + padding, **ids)
    return folder


def pool_of(folder: Path, tokenizer: str | Mapping[str, Any] | None, base: str | None = "base") -> Pool:
    sources = [name for name in ("base", "x", "y") if name != base]
    return Pool(base=base and str(folder / base), sources=[str(folder / name) for name in sources], tokenizer=tokenizer)


def row_by_row(models: Sequence[Model], name: str, numbers: Mapping[str, int], n_rows: int, base: Model | None) -> list[Tensor]:
    """What the tensor of each model must be, in the plainest words; rows of no token are zeros here."""
    own = [model.read(name) for model in models]
    words = [model.tokenizer.get_vocab() for model in models]  # type: ignore[union-attr]
    made = [torch.zeros((n_rows, tensor.shape[1])) for tensor in own]
    for token, row in numbers.items():
        having = [i for i, known in enumerate(words) if token in known and known[token] < len(own[i])]
        for i, tensor in enumerate(made):
            if i in having:
                tensor[row] = own[i][words[i][token]]
            elif len(having) == 1 or (base is not None and models.index(base) in having):
                giver = having[0] if len(having) == 1 or base is None else models.index(base)
                tensor[row] = own[giver][words[giver][token]]
            elif having:
                tensor[row] = sum((own[j][words[j][token]] for j in having), torch.zeros(tensor.shape[1])) / len(having)
    return made


@pytest.mark.parametrize("base", ["base", None])
@pytest.mark.parametrize("source", ["base", "union", "x"])
@pytest.mark.parametrize("name", [EMBEDDING, HEAD])
def test_every_row_is_the_one_of_its_token(folder: Path, base: str | None, source: str, name: str) -> None:
    pool = pool_of(folder, source, base)
    stored, numbers = [own_rows(model) for model in pool.models], pool.tokenizer.get_vocab()
    n_rows = pool.leader.shapes[name][0]
    expected = row_by_row(stored, name, numbers, n_rows, stored[0] if base else None)
    named = sorted(numbers.values())
    for model, tensor in zip(pool.models, expected, strict=True):
        found = model.read(name)
        assert found.shape == model.shapes[name] == (n_rows, 16)
        assert found.dtype == model.dtypes[name]
        assert torch.allclose(found[named], tensor[named], atol=1e-7)
    assert len({tuple(tensor[named].flatten().tolist()) for tensor in expected}) == 3  # else every order would pass


def test_tokens_that_a_source_lacks_are_not_in_its_task_vector(folder: Path) -> None:
    pool = pool_of(folder, "base")
    x, base = pool.sources[0], pool.base
    assert base is not None
    own, numbers = own_rows(x).tokenizer.get_vocab(), pool.tokenizer.get_vocab()  # type: ignore[union-attr]
    difference = x.read(EMBEDDING) - base.read(EMBEDDING)
    lacking = [row for token, row in numbers.items() if token not in own]
    assert lacking
    assert not difference[lacking].any()
    assert difference[[row for token, row in numbers.items() if token in own]].any(dim=1).all()


@pytest.mark.parametrize(
    ("tokenizer", "n_rows"),
    [
        ("base", lambda counts: counts["base"] + 4),  # kept at its size
        ({"source": "base", "pad_to_multiple_of": 1}, lambda counts: counts["base"]),
        ({"source": "base", "pad_to_multiple_of": 64}, lambda counts: -(-counts["base"] // 64) * 64),
        ("x", lambda counts: counts["x"]),
        ("y", lambda counts: counts["y"] + 2),
    ],
)
def test_there_are_as_many_rows_as_said(
    folder: Path, tokenizers: dict[str, Any], tokenizer: Any, n_rows: Callable[[dict[str, int]], int]
) -> None:
    pool = pool_of(folder, tokenizer)
    expected = n_rows({name: len(each) for name, each in tokenizers.items()})
    assert {model.shapes[name][0] for model in pool.models for name in (EMBEDDING, HEAD)} == {expected}
    assert {model.config.vocab_size for model in pool.models} == {expected}


def test_rows_that_are_padded_anew_are_the_mean_of_a_models_own(folder: Path) -> None:
    pool = pool_of(folder, {"source": "union", "pad_to_multiple_of": 64})
    n_tokens = len(pool.tokenizer)
    for model in pool.models:
        rows = model.read(HEAD)
        assert len(rows) % 64 == 0
        assert len(rows) > n_tokens
        mean = rows[:n_tokens].double().mean(0).float()
        assert torch.allclose(rows[n_tokens:], mean.expand(len(rows) - n_tokens, -1), atol=1e-7)


def test_padding_of_one_tokenizer_is_kept_at_the_bases_size(
    tmp_path: Path, save_pico: Callable[..., Path], make_tokenizer: Callable[..., Any]
) -> None:
    sizes = {"base": 36, "more": 40, "fewer": 33}
    for seed, (name, rows) in enumerate(sizes.items()):
        save_pico(tmp_path / name, seed, tokenizer=make_tokenizer(), vocab_size=rows)  # 31 tokens
    pool = Pool(base=str(tmp_path / "base"), sources=[str(tmp_path / "more"), str(tmp_path / "fewer")], tokenizer="base")
    base, more, fewer = (model.read(EMBEDDING) for model in pool.models)
    own = {name: load_file(tmp_path / name / "model.safetensors")[EMBEDDING] for name in sizes}
    assert torch.equal(base, own["base"])
    assert torch.equal(more, own["more"][:36])
    assert torch.equal(fewer, torch.cat([own["fewer"], own["base"][33:]]))
    assert not refusals(for_mixing(describe(pool.base, pool.sources)))


def test_models_of_one_vocabulary_are_read_as_they_are(family: Path) -> None:
    plain = Pool(base=str(family / "base"), sources=[str(family / "a")])
    aligned = Pool(base=str(family / "base"), sources=[str(family / "a")], tokenizer="union")
    for ours, theirs in zip(aligned.models, plain.models, strict=True):
        assert ours.shapes == theirs.shapes
        assert ours.read(EMBEDDING).data_ptr() == own_rows(ours).read(EMBEDDING).data_ptr()  # nothing is copied
        assert torch.equal(ours.read(EMBEDDING), theirs.read(EMBEDDING))


def test_a_model_without_a_tokenizer_is_taken_to_have_the_first_models(folder: Path, tmp_path: Path, save_pico: Any) -> None:
    mute = save_pico(tmp_path / "mute", 5, vocab_size=pool_of(folder, "base").leader.shapes[EMBEDDING][0])
    pool = Pool(base=str(folder / "base"), sources=[str(mute), str(folder / "y")], tokenizer="base")
    assert torch.equal(pool.sources[0].read(EMBEDDING), load_file(mute / "model.safetensors")[EMBEDDING])
    alone = Pool(base=str(mute), sources=[str(folder / "y")], tokenizer="base")
    with pytest.raises(ModelError, match=r"'base' .* has no tokenizer, so that rows cannot be matched by token"):
        _ = alone.leader.shapes


def test_tied_embeddings_are_matched_beside_a_head_of_its_own(
    folder: Path, tmp_path: Path, save_pico: Any, tokenizers: dict[str, Any]
) -> None:
    tied = save_pico(tmp_path / "tied", 6, tokenizer=tokenizers["x"], vocab_size=len(tokenizers["x"]), tie_word_embeddings=True)
    pool = Pool(base=str(folder / "base"), sources=[str(tied)], tokenizer="tied")
    source = pool.sources[0]
    assert torch.equal(source.read(HEAD), source.read(EMBEDDING))
    assert not source.config.tie_word_embeddings
    both = Pool(base=str(tied), sources=[str(tied)], tokenizer="base")
    assert HEAD not in both.leader.shapes


# --- the tokenizer --------------------------------------------------------------------------------------------------------


def test_a_union_keeps_the_bases_numbers_and_the_others_order_and_flags(folder: Path, tokenizers: dict[str, Any]) -> None:
    union, base = pool_of(folder, "union").tokenizer, tokenizers["base"]
    numbers = union.get_vocab()
    assert {token: numbers[token] for token in base.get_vocab()} == base.get_vocab()
    assert sorted(numbers.values()) == list(range(len(numbers)))
    expected = sorted(base.get_vocab(), key=base.get_vocab().get)
    for name in ("x", "y"):
        own = tokenizers[name].get_vocab()
        expected += [token for token in sorted(own, key=own.get) if token not in expected]
    assert sorted(numbers, key=numbers.get) == expected
    added = {str(token): token for token in union.added_tokens_decoder.values()}
    assert (added["<think>"].lstrip, added["<think>"].special) == (True, False)
    assert added["<tool>"].special
    assert len(base) == len(tokenizers["base"].get_vocab())  # the base's own is left as it was


def test_a_union_cuts_texts_of_the_base_as_the_base_does(folder: Path, tokenizers: dict[str, Any]) -> None:
    union, base = pool_of(folder, "union").tokenizer, tokenizers["base"]
    only_base = "the cat sat on the mat"
    assert union.encode(only_base) == base.encode(only_base)
    assert union.tokenize("the <tool>cat") == [*base.tokenize("the "), "<tool>", *base.tokenize("cat")]
    for text in (TEXTS["base"], TEXTS["y"], "a <tool> b", "ran to zz"):
        assert union.decode(union.encode(text)) == text


def test_words_of_another_byte_pair_tokenizer_are_found_where_the_base_has_no_word(
    folder: Path, tokenizers: dict[str, Any]
) -> None:
    union, base, y = pool_of(folder, "union").tokenizer, tokenizers["base"], tokenizers["y"]
    assert y.tokenize(" counts") == ["Ġcounts"]
    assert len(base.tokenize(" counts")) > 1
    assert union.tokenize("the cat counts sums") == ["the", "Ġcat", "Ġcounts", "Ġsums"]
    for word in TEXTS["base"].split():  # as long as the base has a word, its letters are not looked at again
        assert union.tokenize(f" {word}") == base.tokenize(f" {word}")


def test_merges_of_tokenizers_with_marks_before_words_join_too() -> None:
    def marked(text: str) -> PreTrainedTokenizerFast:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        tokenizer.train_from_iterator([text] * 3, trainers.BpeTrainer(special_tokens=["<unk>"], show_progress=False))
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")

    base, other = marked("the cat sat"), marked("東京 駅 the")
    union = union_tokenizer(base, [(other, len(other))])
    assert union.tokenize("the cat 東京") == ["▁the", "▁cat", "▁東京"]
    assert union.decode(union.encode("the cat 東京")) == "the cat 東京"


def test_plain_tokens_of_another_kind_of_tokenizer_are_added_ones(tokenizers: dict[str, Any], make_tokenizer: Any) -> None:
    base = tokenizers["base"]
    union = union_tokenizer(base, [(make_tokenizer("東京"), 1000)])
    assert union.tokenize("the 東京") == [*base.tokenize("the "), "東京"]
    assert len(union) == len({*base.get_vocab(), *make_tokenizer("東京").get_vocab()})
    assert len(union_tokenizer(base, [(make_tokenizer("東京"), 3)])) == len(base) + 1  # of the rows only <unk> is new


def test_the_first_chat_template_is_kept(folder: Path, tmp_path: Path, save_pico: Any, tokenizers: dict[str, Any]) -> None:
    speaking = bpe(TEXTS["y"], "<s>", "<end>")
    speaking.chat_template = "{{ messages }}"
    save_pico(tmp_path / "chat", 7, tokenizer=speaking, vocab_size=len(speaking))
    for source in ("base", "union", "chat"):
        pool = Pool(base=str(folder / "base"), sources=[str(folder / "x"), str(tmp_path / "chat")], tokenizer=source)
        assert pool.tokenizer.chat_template == "{{ messages }}"
    assert tokenizers["base"].chat_template is None


def test_numbers_of_special_tokens_follow_the_tokenizer(folder: Path, tokenizers: dict[str, Any]) -> None:
    pool = pool_of(folder, "x")
    numbers = tokenizers["x"].get_vocab()
    assert {model.config.bos_token_id for model in pool.models} == {numbers["<|x|>"]}
    assert pool.generation_config.eos_token_id == numbers["</s>"]  # <end> is no token of x
    union = pool_of(folder, "union")
    numbers = union.tokenizer.get_vocab()
    assert union.leader.config.eos_token_id == numbers["</s>"]
    assert union.generation_config.eos_token_id == [numbers["</s>"], numbers["<end>"]]  # any model's end ends an answer


@pytest.mark.parametrize("force", [False, True])
def test_single_tokens_have_their_rows_from_where_it_is_said(folder: Path, tokenizers: dict[str, Any], *, force: bool) -> None:
    rows = {
        "<tool>": {"model": "x", "force": force},
        "</s>": {"model": "x", "force": force},
        "<new>": {"model": "y", "token": "<end>"},
        "<row>": {"model": "base", "token": 7},
        "<zero>": {"model": None},
    }
    pool = pool_of(folder, {"source": "base", "tokens": rows})
    numbers, base, x = pool.tokenizer.get_vocab(), pool.leader.read(HEAD), pool.sources[0].read(HEAD)
    own = {name: load_file(folder / name / "model.safetensors")[HEAD] for name in ("base", "x", "y")}
    known = {name: tokenizer.get_vocab() for name, tokenizer in tokenizers.items()}
    assert torch.equal(base[numbers["<tool>"]], own["x"][known["x"]["<tool>"]])
    assert torch.equal(x[numbers["</s>"]], own["x"][known["x"]["</s>"]])
    assert torch.equal(base[numbers["</s>"]], own["x" if force else "base"][known["x" if force else "base"]["</s>"]])
    for tensor in (base, x):
        assert torch.equal(tensor[numbers["<new>"]], own["y"][known["y"]["<end>"]])
        assert torch.equal(tensor[numbers["<row>"]], own["base"][7])
        assert not tensor[numbers["<zero>"]].any()


# --- recipes and candidates -----------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(folder: Path, make_recipe: Callable[..., ParameterSpaceRecipe]) -> Callable[..., ParameterSpaceRecipe]:
    """TIES of ``x`` and ``y``, with the given tokenizer."""
    rule = ParameterRule(("*",), {"weight": (0.5, 0.7), "density": (0.6, 0.9)})

    def make(source: str, **options: Any) -> ParameterSpaceRecipe:
        plain = make_recipe("ties", folder / "base", {name: folder / name for name in "xy"}, rule)
        made = pool_of(folder, {"source": source, **options}).tokenizer_rule
        assert made is not None
        return replace(plain, tokenizer=made.among(plain.base, plain.sources))

    return make


@pytest.mark.parametrize("source", ["base", "union", "x"])
def test_what_is_built_is_what_is_in_memory_and_speaks(folder: Path, tmp_path: Path, recipe: Any, source: str) -> None:
    made = recipe(source)
    pool = Pool.of_recipe(from_yaml(to_yaml(made)))
    mixed = Assembler(pool_of(folder, source), torch.device("cpu")).assemble(made)
    write_checkpoint(made, pool, tmp_path / "out")
    built = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.get_vocab() == pool.tokenizer.get_vocab()
    assert tokenizer.added_tokens_decoder == pool.tokenizer.added_tokens_decoder
    assert built.config.vocab_size == built.get_input_embeddings().num_embeddings == built.get_output_embeddings().out_features
    tokens = tokenizer("the cat sat on the mat", return_tensors="pt")["input_ids"]
    assert torch.equal(tokens, pool_of(folder, source).tokenizer("the cat sat on the mat", return_tensors="pt")["input_ids"])
    with torch.no_grad():
        assert torch.equal(built(tokens).logits, mixed(tokens).logits)
    assert built.generation_config.eos_token_id == pool.generation_config.eos_token_id


def test_a_source_by_itself_answers_in_the_merges_tokens_also_when_it_is_built(folder: Path, tmp_path: Path) -> None:
    pool = pool_of(folder, "union")
    alone = single_model(pool.sources[1].reference, "float32", "y", pool.tokenizer_rule)
    assert Pool.of_recipe(alone).tokenizer_rule == pool.tokenizer_rule
    mixed = Assembler(pool, torch.device("cpu")).assemble(alone)
    write_checkpoint(alone, Pool.of_recipe(alone), tmp_path / "out")
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")[EMBEDDING], mixed.get_input_embeddings().weight)
    # Its own words come out as from the model itself: only rows were moved.
    own, merged = (AutoTokenizer.from_pretrained(path) for path in (folder / "y", tmp_path / "out"))
    text = "the cat"
    ids = [merged.get_vocab()[token] for token in own.tokenize(text)]
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(folder / "y")(torch.tensor([own.encode(text)])).logits
        ours = mixed(torch.tensor([ids])).logits
    columns = [merged.get_vocab()[token] for token in sorted(own.get_vocab(), key=own.get_vocab().get)]
    assert torch.allclose(ours[0][:, columns], theirs[0][:, : len(columns)], atol=1e-5)


def test_a_merge_that_is_a_recipe_goes_into_another_merge(folder: Path, recipe: Any, make_recipe: Any) -> None:
    inner = ModelReference(recipe=recipe("union"))
    pool = Pool(
        base=str(folder / "base"),
        sources=[{"name": "merged", **reference_record(inner)}, str(folder / "y")],
        tokenizer="base",
    )
    merged = pool.sources[0]
    numbers, wider = pool.tokenizer.get_vocab(), own_rows(merged).tokenizer.get_vocab()  # type: ignore[union-attr]
    rows = [wider[token] for token in sorted(numbers, key=numbers.get)]
    assert torch.equal(merged.read(HEAD)[: len(rows)], own_rows(merged).read(HEAD)[rows])


def test_a_recipe_says_its_tokenizer_only_where_it_has_one(recipe: Any, dare: ParameterSpaceRecipe) -> None:
    assert "tokenizer" not in to_yaml(dare)
    short = recipe("union")
    assert "tokenizer: {source: union}" in to_yaml(short)
    long = recipe("x", pad_to_multiple_of=8, tokens={"<a>": {"model": "y", "token": 3, "force": True}, "<b>": {"model": None}})
    alone = replace(long, sources=long.sources[:1], parameters=(ParameterRule(("*",), {"weight": (1.0,), "density": (1.0,)}),))
    alone = replace(alone, tokenizer=replace(long.tokenizer, base=long.base, sources=long.sources))
    for each in (short, long, alone):
        assert from_yaml(to_yaml(each)) == each
    assert len({recipe_hash(each) for each in (short, long, alone, replace(short, tokenizer=None))}) == 4


def test_a_pool_refuses_recipes_of_other_rows(folder: Path, tmp_path: Path, recipe: Any) -> None:
    pool = pool_of(folder, "union")
    assembler = Assembler(pool, torch.device("cpu"))
    for other in (recipe("base"), replace(recipe("base"), tokenizer=None), recipe("union", pad_to_multiple_of=8)):
        with pytest.raises(RecipeError, match="and the models have the rows of union"):
            assembler.assemble(other)
        with pytest.raises(RecipeError, match="and the models have the rows of union"):
            write_checkpoint(other, pool, tmp_path / "built")


@pytest.mark.parametrize(
    ("tokenizer", "said"),
    [
        ("z", "models.tokenizer names 'z'; there are base, union, x, y"),
        ("", "models: tokenizer.source must be base, union, or the name of a source, got ''"),
        ({"source": "base", "pad_to_multiple_of": 0}, "pad_to_multiple_of must be a whole number from 1, got 0"),
        ({"source": "base", "pad": 8}, "unknown key 'tokenizer.pad'; there are source, pad_to_multiple_of"),
        (
            {"source": "base", "tokens": {"<a>": {"model": "z"}}},
            r"models.tokenizer.tokens\['<a>'\] names 'z'; there are base, x, y",
        ),
        ({"source": "base", "tokens": {"<a>": {}}}, r"tokenizer.tokens\['<a>'\].model must be the name of a model, or null"),
        ({"source": "base", "tokens": {"<a>": {"model": None, "token": "b"}}}, "must be a token of that model or the number"),
    ],
)
def test_what_is_wrong_with_a_tokenizer_is_said(folder: Path, tokenizer: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        pool_of(folder, tokenizer)


def test_a_row_that_its_model_has_not_is_refused_when_it_is_looked_for(folder: Path) -> None:
    pool = pool_of(folder, {"source": "base", "tokens": {"<a>": {"model": "x"}}})
    with pytest.raises(RecipeError, match=r"tokens\['<a>'\] takes the row of '<a>' from 'x', which has none"):
        _ = pool.leader.config


def test_paths_keep_the_tokens_of_their_first_model(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"models\.tokenizer is for mixtures; a layer path has the tokenizer"):
        pool_of(folder, "union").for_paths()


# --- the check ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["base", "union", "x", None])
def test_the_check_counts_the_tokens_of_each_model(
    command: Callable[..., Any], folder: Path, tokenizers: dict[str, PreTrainedTokenizerFast], source: str | None
) -> None:
    words = [f"models.base={folder / 'base'}", f"models.sources=[{folder / 'x'},{folder / 'y'}]"]
    ended = command("models=custom", *words, *([f"models.tokenizer={source}"] if source else []), verb="check")
    _, is_said, lines = ended.out.partition("\nThe merge has ")
    assert bool(is_said) == (source is not None)
    if source is None:
        return
    tokens = {name: set(tokenizer.get_vocab()) for name, tokenizer in tokenizers.items()}
    kept = set().union(*tokens.values()) if source == "union" else tokens[source]
    head, *each = lines.splitlines()
    assert head.startswith(f"{len(kept)} tokens in ")
    for line, (name, own) in zip(each, tokens.items(), strict=True):
        counts = {
            "": len(own),
            "shared with base": len(own & tokens["base"]) if name != "base" else 0,
            "new": len((own - tokens["base"]) & kept),
            "left out": len(own - kept),
        }
        assert line == f"- {name}: " + ", ".join(f"{n} {what}".strip() for what, n in counts.items() if n)


def test_what_would_be_refused_is_mended_by_a_tokenizer(folder: Path) -> None:
    plain = pool_of(folder, None)
    refused = refusals(for_mixing(describe(plain.base, plain.sources)))
    assert {finding.name for finding in refused} == {"token_numbers", "vocabulary"}
    assert all("models.tokenizer=" in finding.mend for finding in refused)
    for source in ("base", "union"):
        pool = pool_of(folder, source)
        described = describe(pool.base, pool.sources)
        found = for_mixing(described) + in_values(described)
        assert not refusals(found)
        assert "special_tokens" in {finding.name for finding in found}
