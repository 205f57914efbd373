"""What two models' words have in common: vocabularies, special tokens, chat templates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from evo_merge.findings import Finding
from evo_merge.models.checks import kinds
from evo_merge.models.merged_tokenizer import spelling
from evo_merge.models.model import Model, StoredModel

if TYPE_CHECKING:
    from evo_merge.models.checks.facts import Facts

# Whatever a tokenizer is read from.
_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_ON_PATHS = "choose models that share a vocabulary"
_FEW = 0.5  # of the smaller vocabulary: with fewer shared tokens most rows are one model's alone
_SHOWN = 3  # of a list of differences of one kind


@dataclass(frozen=True, slots=True, eq=False)
class TokenizerFacts:
    """One tokenizer.

    Attributes:
        vocabulary: Number of every token, added ones too.
        special: Token by role, such as ``eos_token``.
        chat_template: Jinja text or named texts, or ``None``.
        rules: How text is cut before the vocabulary is looked up, in the words of the tokenizer's file; empty where unknown.
        spelling: How a space and what is no letter are spelled in tokens; ``None`` where unknown.
    """

    vocabulary: Mapping[str, int]
    special: Mapping[str, str]
    chat_template: str | None
    rules: Mapping[str, str]
    spelling: str | None


# Large vocabularies take a second to write out, and a run compares its models several times.
_KNOWN: WeakKeyDictionary[Any, TokenizerFacts] = WeakKeyDictionary()


def tokenizer_facts(model: Model, known: dict[str, TokenizerFacts]) -> TokenizerFacts | None:
    """Read a model's tokenizer, or ``None`` where it has none; equal files are read once."""
    digest = _digest(model.files.folder) if isinstance(model, StoredModel) and model.files.gguf is None else ""
    if digest and digest in known:
        return known[digest]
    tokenizer = model.tokenizer
    if tokenizer is None:
        return None
    facts = _facts(tokenizer)
    if digest:
        known[digest] = facts
    return facts


def _facts(tokenizer: Any) -> TokenizerFacts:
    if tokenizer in _KNOWN:
        return _KNOWN[tokenizer]
    special = {role: str(getattr(tokenizer, role)) for role in _SPECIAL if getattr(tokenizer, role, None) is not None}
    template = getattr(tokenizer, "chat_template", None)
    text = template if template is None or isinstance(template, str) else json.dumps(template, sort_keys=True)
    _KNOWN[tokenizer] = TokenizerFacts(tokenizer.get_vocab(), special, text, _rules(tokenizer), spelling(tokenizer))
    return _KNOWN[tokenizer]


def compare_tokens(ours: Facts, theirs: Facts, *, on_paths: bool) -> list[Finding]:
    """What keeps the words of two models apart."""
    rows, words = (look(ours, theirs, on_paths=on_paths) for look in (_embedding_rows, _vocabularies))
    if rows and words:  # more tokens need more rows, which is not said again
        (size,), (vocabulary,) = rows, words
        rows, words = [], [replace(vocabulary, text=f"{vocabulary.text}; {size.text.rpartition(' differ in ')[2]}")]
    return [*rows, *words, *_special_tokens(ours, theirs)]


def compare_aligned_tokens(ours: Facts, theirs: Facts) -> list[Finding]:
    """What is worth knowing of the words of two models whose rows are matched by token."""
    if ours.tokenizer is None or theirs.tokenizer is None or ours.tokenizer is theirs.tokenizer:
        return []
    first, second = ours.tokenizer, theirs.tokenizer
    pair, names = f"{ours.label} and {theirs.label}", (ours.name, theirs.name)
    if first.vocabulary == second.vocabulary:
        return [*_vocabularies(ours, theirs, on_paths=False), *_special_tokens(ours, theirs)]
    found = []
    if first.spelling is not None and second.spelling is not None and first.spelling != second.spelling:
        text = f"{pair} spell tokens differently: {first.spelling} and {second.spelling}"
        found.append(kinds.TOKEN_SPELLING.found(text, *names))
    n_shared = len(first.vocabulary.keys() & second.vocabulary.keys())
    if n_shared < _FEW * min(len(first.vocabulary), len(second.vocabulary)):
        text = f"{pair} share {n_shared} tokens, of {len(first.vocabulary)} and {len(second.vocabulary)}"
        found.append(kinds.FEW_SHARED_TOKENS.found(text, *names))
    return found + _special_tokens(ours, theirs, with_numbers=False)


def compare_templates(models: Sequence[Facts]) -> list[Finding]:
    """Chat templates that differ from the first that there is; a base without one, beside chat models, is as it should be."""
    having = [(facts, facts.tokenizer.chat_template) for facts in models if facts.tokenizer and facts.tokenizer.chat_template]
    return [
        kinds.CHAT_TEMPLATE.found(
            f"{facts.label} and {having[0][0].label} have different chat templates", facts.name, having[0][0].name
        )
        for facts, template in having[1:]
        if template != having[0][1]
    ]


def some(items: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    shown = ", ".join(items[:_SHOWN])
    return shown if len(items) <= _SHOWN else f"{shown} and {len(items) - _SHOWN} more"


def _digest(folder: Path) -> str:
    """Of all files that a tokenizer is read from; empty where there is none."""
    digest, has_any = hashlib.sha256(), False
    for name in _FILES:
        if (folder / name).is_file():
            has_any = True
            digest.update(f"{name}\n".encode() + hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest() if has_any else ""


def _rules(tokenizer: Any) -> dict[str, str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {}
    written = json.loads(backend.to_str())
    rules = {key: json.dumps(written.get(key), sort_keys=True) for key in ("normalizer", "pre_tokenizer")}
    merges = json.dumps(written["model"].get("merges"))
    return rules | {"merges": hashlib.sha256(merges.encode()).hexdigest()}


def _embedding_rows(ours: Facts, theirs: Facts, *, on_paths: bool) -> list[Finding]:
    if ours.config is None or theirs.config is None:
        return []
    first, second = ours.config.get("vocab_size"), theirs.config.get("vocab_size")
    if first == second:
        return []
    words = [None if each.tokenizer is None else each.tokenizer.vocabulary for each in (ours, theirs)]
    are_same = words[0] is not None and words[0] == words[1]
    kind = kinds.PADDED_VOCABULARY if are_same else kinds.VOCABULARY_SIZE
    text = f"{ours.label} and {theirs.label} differ in vocab_size: {first} and {second}"
    mend = _ON_PATHS if on_paths else None
    return [kind.found(text, ours.name, theirs.name, on_paths=on_paths, mend=mend)]


def _vocabularies(ours: Facts, theirs: Facts, *, on_paths: bool) -> list[Finding]:
    if ours.tokenizer is None or theirs.tokenizer is None or ours.tokenizer is theirs.tokenizer:
        return []
    pair, names = f"{ours.label} and {theirs.label} differ in ", (ours.name, theirs.name)
    first, second = ours.tokenizer.vocabulary, theirs.tokenizer.vocabulary
    if first == second:
        odd = [key for key, rule in ours.tokenizer.rules.items() if theirs.tokenizer.rules.get(key, rule) != rule]
        return [kinds.TOKENIZER_RULES.found(f"{pair}their tokenizers' {' and '.join(odd)}", *names)] if odd else []
    mend = _ON_PATHS if on_paths else None
    sizes = f"vocabulary: {len(first)} and {len(second)} tokens"
    moved = sorted(f"'{t}' is {n} and {second[t]}" for t, n in first.items() if t in second and second[t] != n)
    only = sorted(f"'{token}'" for token in first.keys() ^ second.keys())
    if moved:
        also = f"; tokens in one alone: {some(only)}" if only else ""
        return [kinds.TOKEN_NUMBERS.found(f"{pair}{sizes}; token numbers: {some(moved)}{also}", *names, mend=mend)]
    has_grown = first.keys() <= second.keys() or second.keys() <= first.keys()
    text = f"{pair}{sizes}; tokens in one alone: {some(only)}"
    if has_grown and (on_paths or (ours.config or {}).get("vocab_size") == (theirs.config or {}).get("vocab_size")):
        return [kinds.ADDED_TOKENS.found(text, *names)]
    return [kinds.VOCABULARY.found(text, *names, mend=mend)]


def _special_tokens(ours: Facts, theirs: Facts, *, with_numbers: bool = True) -> list[Finding]:
    found = []
    if ours.tokenizer is not None and theirs.tokenizer is not None:
        first, second = ours.tokenizer.special, theirs.tokenizer.special
        found += [
            f"{role}: '{first[role]}' and '{second[role]}'"
            for role in _SPECIAL
            if role in first and role in second and first[role] != second[role]
        ]
    ids = [(key, (ours.config or {}).get(key), (theirs.config or {}).get(key)) for key in _IDS if with_numbers]
    found += [f"{key}: {own} and {other}" for key, own, other in ids if own is not None and other is not None and own != other]
    if not found:
        return []
    return [kinds.SPECIAL_TOKENS.found(f"{ours.label} and {theirs.label} differ in {', '.join(found)}", ours.name, theirs.name)]
