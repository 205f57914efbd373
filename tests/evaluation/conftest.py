"""A pico model with a tokenizer of words, and a task over it; nothing is downloaded."""

from collections.abc import Callable, Sequence

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from evo_merge.tasks.base import Decoding, Example, Prompt, Split

N_WORDS = 60


class Counting:
    """Prompts of different lengths; the score is the number of words in the answer."""

    name = "counting"
    objectives = ("words",)
    metrics = ("words", "characters")

    def __init__(self, decoding: Decoding | None = None, n_examples: int = 7) -> None:
        self.decoding = decoding or Decoding(max_new_tokens=12)
        self.n_examples = n_examples

    def examples(self, split: Split) -> Sequence[Example]:
        lengths = [3, 9, 1, 5, 5, 12, 2, 7, 4, 11, 6, 8][: self.n_examples]
        words = [[f"w{(7 * i + 3 * j) % N_WORDS}" for j in range(n)] for i, n in enumerate(lengths)]
        return [] if split == "validation" else [Example(f"{split}/{i}", " ".join(w), "") for i, w in enumerate(words)]

    def prompt(self, example: Example) -> Prompt:
        return example.question

    def answering_of(self, example: Example) -> Decoding:
        return self.decoding

    def score(self, example: Example, completion: str) -> tuple[float, ...]:
        return float(len(completion.split())), float(len(completion))


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3} | {f"w{i}": i + 4 for i in range(N_WORDS)}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


@pytest.fixture
def model(vary_weights: Callable[[PreTrainedModel], None]) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=N_WORDS + 4,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    vary_weights(model)
    return model


def _vary_weights(model: PreTrainedModel) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    model.eval()


@pytest.fixture(scope="session")
def vary_weights() -> Callable[[PreTrainedModel], None]:
    """Gives a model weights large enough that greedy answers differ from prompt to prompt."""
    return _vary_weights


@pytest.fixture(scope="session")
def counting() -> type[Counting]:
    """The task's class; test modules cannot import from here."""
    return Counting
