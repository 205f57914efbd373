"""The tokenizer of a merge: one model's, or the base's with the tokens that only other models have added to it.

As mergekit does it (``tokenizer_source: union``, https://github.com/arcee-ai/mergekit): what the base lacks becomes an *added*
token. Added tokens are looked for in a text as they are spelled, before the base's own rules cut the rest.
"""

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
    known = dict(base.get_vocab())
    new: dict[str, Any] = {}
    for tokenizer, n_rows in others:
        added = tokenizer.added_tokens_decoder
        for token, number in sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1]):
            if token not in known and token not in new and number < n_rows:
                new[token] = added.get(number, token)
    return with_tokens(base, new)


def with_tokens(tokenizer: Any, tokens: Mapping[str, Any]) -> Any:
    """A copy of the tokenizer with tokens added: each as a text, or as an ``AddedToken`` that says how it is matched.

    Raises:
        ModelError: The tokenizer does not take one of them.
    """
    copied = deepcopy(tokenizer)
    copied.add_tokens(list(tokens.values()))  # at once: each call builds the table of all added tokens anew
    known = copied.get_vocab()
    if lost := [token for token in tokens if token not in known]:
        raise ModelError(f"the tokenizer of '{tokenizer.name_or_path}' cannot take the token '{lost[0]}'")
    return copied


def spelling(tokenizer: Any) -> str | None:
    """How a tokenizer spells the space before a word and what is no letter; ``None`` where that is not known."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    parts = " ".join(repr(part) for part in (backend.normalizer, backend.pre_tokenizer, backend.decoder))
    if "ByteLevel" in parts:
        return BYTE_LEVEL
    return SENTENCEPIECE if "▁" in parts else None
