"""Rows matched by token: how long it takes, and whether mergekit makes the same of it.

``python benchmarks/vocabularies.py`` aligns embeddings of 50,000 tokens and 576 columns, half of the tokens shared.
``python benchmarks/vocabularies.py MERGEKIT-YAML`` also runs mergekit's command (of an environment of its own) on small models
with real tokenizers, by every kind of tokenizer, and compares every tensor, rows by the tokens that they belong to.
"""

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from evo_merge.interchange.read import load_any
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.merged_tokenizer import union_tokenizer
from evo_merge.models.pool import Pool
from evo_merge.models.vocabulary import Vocabulary, Words

N_TOKENS, N_SHARED, WIDTH, REPEATS = 50_000, 25_000, 576, 5
BY_TOKEN = ("model.embed_tokens.weight", "lm_head.weight")


def timed(name: str, work: Callable[[], Any], repeats: int = REPEATS) -> Any:
    """The result, after printing the least of some times, in seconds of one core: other programs may take the other."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        found = work()
        times.append(time.process_time() - start)
    print(f"{name:55} {min(times):7.3f} s")
    return found


def time_union() -> None:
    """Two vocabularies of 50,000 tokens, of which half are shared: each is a shorter one and a letter."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [
        "".join(word) for length in (1, 2, 3, 4) for word in itertools.islice(itertools.product(letters, repeat=length), 90_000)
    ]
    shared, rest = words[:N_SHARED], words[N_SHARED:]
    half = N_TOKENS - N_SHARED
    ours, theirs = ({word: i for i, word in enumerate(shared + own)} for own in (rest[:half], rest[half : 2 * half]))
    base, other = (
        PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.BPE(vocabulary, [(word[:-1], word[-1]) for word in vocabulary if len(word) > 1]))
        )
        for vocabulary in (ours, theirs)
    )
    union = timed("the union's tokenizer, once a run", lambda: union_tokenizer(base, [(other, N_TOKENS)]), 1)
    n_rows, known = len(union.get_vocab()), (Words(ours, N_TOKENS), Words(theirs, N_TOKENS))

    def rows() -> tuple[Vocabulary, torch.Tensor]:
        vocabulary = Vocabulary(union, known, 0, has_base=True, n_rows=n_rows, n_named=n_rows, pads=False, given={})
        _ = vocabulary.given_by
        return vocabulary, vocabulary.rows[1]

    vocabulary, of_other = timed("which row goes where, two models, once a run", rows)
    tensors = [torch.randn(N_TOKENS, WIDTH, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    found = timed(
        f"one tensor, {n_rows:,} rows of {WIDTH} in float32, each read",
        lambda: vocabulary.aligned(tensors[1], of_other, lambda place: tensors[place]),
    )
    assert torch.equal(found[-1], tensors[1][-1])
    timed("copying as many bytes", found.clone)


def new_tokenizer(text: str, begin: str, end: str, *added: AddedToken) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained on a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=[begin, end], initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator([text] * 5, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=begin, eos_token=end)
    made.add_tokens(list(added))
    return made


def write_models(folder: Path) -> None:
    """A base with rows that no token has, and two models with other tokens."""
    added = (AddedToken("<think>", lstrip=True), AddedToken("<tool>", special=True))
    tokenizers = {
        "base": (new_tokenizer("the cat sat on the mat and the dog", "<s>", "</s>"), 4),
        "x": (new_tokenizer("新しい 東京 駅 numbers and sums of numbers", "<|x|>", "</s>", *added), 0),
        "y": (new_tokenizer("the cat numbers sums", "<s>", "<end>"), 2),
    }
    for seed, (name, (tokenizer, padding)) in enumerate(tokenizers.items()):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer) + padding,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        LlamaForCausalLM(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def configs(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A mergekit config for every kind of tokenizer, by name."""
    base, x, y = (str(folder / name) for name in ("base", "x", "y"))

    def mixed(method: str, **more: Any) -> dict[str, Any]:
        settings = {"weight": 0.6} | ({"density": 0.5} if method == "ties" else {})
        chosen = {"merge_method": method, "dtype": "float32", "models": [{"model": m, "parameters": settings} for m in (x, y)]}
        return chosen | ({} if method == "linear" else {"base_model": base}) | more

    for method in ("task_arithmetic", "linear", "ties"):
        yield f"{method}, union", mixed(method, tokenizer_source="union")
        yield f"{method}, a source's", mixed(method, tokenizer_source=x)
        if method != "linear":
            yield f"{method}, the base's", mixed(method, tokenizer_source="base")
    yield "rows rounded up to 64", mixed("task_arithmetic", tokenizer={"source": "union", "pad_to_multiple_of": 64})
    rows = {
        "<think>": {"source": x},
        "<end>": {"source": y, "force": True},
        "</s>": {"source": x, "force": True},
        "<zero>": {"source": {"kind": "zero"}},
        "<new>": {"source": {"kind": "model_token", "model": x, "token": "<tool>"}},
        "<row>": {"source": {"kind": "model_token", "model": y, "token_id": 7}},
    }
    yield "rows of single tokens", mixed("task_arithmetic", tokenizer={"source": "union", "tokens": rows})


def compare(command: str) -> None:
    """Build each config with both programs and print the largest difference, as a share of the largest entry."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_models(folder)
        for number, (name, config) in enumerate(configs(folder)):
            theirs, ours, file = folder / f"theirs{number}", folder / f"ours{number}", folder / f"{number}.yml"
            file.write_text(yaml.safe_dump(config, sort_keys=False))
            subprocess.run([command, str(file), str(theirs)], check=True, capture_output=True)
            recipe = load_any(file)
            write_checkpoint(recipe, Pool.of_recipe(recipe), ours)
            print(f"{name:55} {_largest_difference(ours, theirs):.1e}")


def _largest_difference(ours: Path, theirs: Path) -> float:
    first, second = (load_file(path / "model.safetensors") for path in (ours, theirs))
    words = [AutoTokenizer.from_pretrained(path).get_vocab() for path in (ours, theirs)]
    if words[0].keys() != words[1].keys() or first.keys() != second.keys():
        raise SystemExit("other tokens, or other tensors")
    # mergekit numbers new tokens in the order of a hash map, another one every time.
    order = [torch.tensor([vocabulary[token] for token in words[0]]) for vocabulary in words]
    worst = 0.0
    for name, tensor in first.items():
        pair = [tensor, second[name]]
        if name in BY_TOKEN:
            n_tokens = len(words[0])
            pair = [torch.cat([each[rows], each[n_tokens:]]) for each, rows in zip(pair, order, strict=True)]
        worst = max(worst, float((pair[0] - pair[1]).abs().max() / pair[1].abs().max()))
    return worst


if __name__ == "__main__":
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    time_union()
    if len(sys.argv) > 1:
        compare(sys.argv[1])
