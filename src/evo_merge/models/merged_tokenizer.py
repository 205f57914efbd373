"""The tokenizer of a merge: one model's, or the base's with the tokens that only other models have.

Of mergekit's union (``tokenizer_source: union``, https://github.com/arcee-ai/mergekit) it has the tokens. There all that the
base lacks become *added* tokens, which are cut out of a text wherever their letters stand before the base's own rules cut the
rest, also inside the base's words. Here that holds for tokens that are added ones in their own tokenizer, and for those of
tokenizers of another kind. Between byte-pair tokenizers of one kind the others' plain tokens join the base's model with their
merges, behind all of the base's.
"""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from evo_merge.errors import ModelError

BYTE_LEVEL, SENTENCEPIECE = "bytes as letters (Ġ)", "words with a mark (▁)"


def union_tokenizer(base: Any, others: Sequence[tuple[Any, int]]) -> Any:
    """The base's tokenizer, followed by the tokens that it lacks: those of the first other model in their order, and so on.

    Args:
        base: A transformers tokenizer; it is left as it is.
        others: Tokenizer and rows of embeddings of each other model; tokens without a row are not taken over.

    Returns:
        Tokens of the base keep their numbers. Added and special tokens of the others keep how they are matched.
    """
    known = base.get_vocab()
    first = max(known.values()) + 1
    alike = [tokenizer for tokenizer, _ in others if _are_alike(base, tokenizer)]
    numbers: dict[str, int] = {}
    added: dict[str, Any] = {}
    for tokenizer, n_rows in others:
        flags = tokenizer.added_tokens_decoder
        for token, number in sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1]):
            if token in known or token in numbers or number >= n_rows:
                continue
            numbers[token] = first + len(numbers)
            if number in flags or tokenizer not in alike:
                added[token] = flags.get(number, token)
    merged = _joined(base, numbers, alike) if len(added) < len(numbers) else deepcopy(base)
    return _with(merged, added)


def with_tokens(tokenizer: Any, tokens: Mapping[str, Any]) -> Any:
    """A copy of the tokenizer with tokens added: each as a text, or as an ``AddedToken`` that says how it is matched.

    Raises:
        ModelError: The tokenizer does not take one of them.
    """
    return _with(deepcopy(tokenizer), tokens)


def spelling(tokenizer: Any) -> str | None:
    """How a tokenizer spells the space before a word and what is no letter; ``None`` where that is not known."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    parts = " ".join(repr(part) for part in (backend.normalizer, backend.pre_tokenizer, backend.decoder))
    if "ByteLevel" in parts:
        return BYTE_LEVEL
    return SENTENCEPIECE if "▁" in parts else None


def _with(tokenizer: Any, tokens: Mapping[str, Any]) -> Any:
    """The tokenizer itself, with tokens added."""
    tokenizer.add_tokens(list(tokens.values()))  # at once: each call builds the table of all added tokens anew
    known = tokenizer.get_vocab() if tokens else {}
    if lost := [token for token in tokens if token not in known]:
        raise ModelError(f"the tokenizer of '{tokenizer.name_or_path}' cannot take the token '{lost[0]}'")
    return tokenizer


def _are_alike(first: Any, second: Any) -> bool:
    """Whether both are byte-pair tokenizers that spell tokens in one way."""
    return all(_is_bpe(each) for each in (first, second)) and spelling(first) == spelling(second)


def _is_bpe(tokenizer: Any) -> bool:
    return type(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)).__name__ == "BPE"


def _joined(base: Any, numbers: Mapping[str, int], alike: Sequence[Any]) -> Any:
    """A copy of a byte-pair tokenizer with new tokens in its model, and the merges of others that make known tokens."""
    from tokenizers import Tokenizer

    written = json.loads(base.backend_tokenizer.to_str())
    model = written["model"]
    # Added tokens, too: those that the model itself lacks would be numbered anew behind it when it is read.
    model["vocab"] = {**model["vocab"], **base.get_vocab(), **numbers}
    vocabulary, merges = model["vocab"], dict.fromkeys(map(_pair, model["merges"]))
    for tokenizer in alike:
        theirs = map(_pair, json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"])
        merges |= dict.fromkeys((a, b) for a, b in theirs if a in vocabulary and b in vocabulary and a + b in vocabulary)
    model["merges"] = list(merges)
    joined = Tokenizer.from_str(json.dumps(written, ensure_ascii=False))
    return deepcopy(base, {id(base._tokenizer): joined})  # everything but the backend, which is copied by way of its text


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """A merge, which older files write as one text."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second
