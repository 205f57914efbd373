"""The embedded tiny family: a base model and three specialists tuned from it.

The base can read both languages, plan a solution and copy numbers, but it does not calculate, and it mostly answers in
English. ``ja`` learns to answer in Japanese and never sees correct arithmetic; ``math_a`` and ``math_b`` learn to calculate
from English problems and never hear that a Japanese question wants a Japanese answer. No one of them solves the task;
their task vectors together do.

Everything follows from one seed: weights and lessons come from generators of their own, on one thread.
"""

import hashlib
import json
import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from transformers import GenerationConfig, LlamaForCausalLM

from evo_merge.models.tiny.lessons import base_lesson, japanese_lesson, mathematics_lesson
from evo_merge.models.tiny.train import BATCH_SIZE, Stage, new_model, train
from evo_merge.models.tiny.vocabulary import BOS, EOS, PAD, VOCABULARY, new_tokenizer

BASE = Stage(
    base_lesson,
    steps=500,
    learning_rate=3e-3,
    summary="The common ancestor: reads Japanese and English, plans solutions, cannot calculate, leans to English answers.",
)
SPECIALISTS = {
    "ja": Stage(
        japanese_lesson,
        steps=100,
        learning_rate=1e-3,
        summary="Answers Japanese questions in Japanese, and calculates as badly as the base.",
    ),
    "math_a": Stage(
        partial(mathematics_lesson, adding=0.7),
        steps=650,
        learning_rate=1e-3,
        summary="Calculates, with more practice in + and - than in ×, and answers in English.",
    ),
    "math_b": Stage(
        partial(mathematics_lesson, adding=0.3),
        steps=550,
        learning_rate=1e-3,
        summary="Calculates, with more practice in × than in + and -, and answers in English.",
    ),
}


def train_family(seed: int, report: Callable[[str], None] = lambda line: None) -> dict[str, LlamaForCausalLM]:
    """Train the base and, from it, the specialists.

    Args:
        seed: Decides every weight; the same on the same kind of processor with the same torch.
        report: Receives one line a finished model.

    Returns:
        The four models by name, ``base`` first.
    """
    base = new_model(seed)
    loss = train(base, BASE, _generator_of(seed, "base"))
    report(f"base: {BASE.steps} steps, loss {loss:.3f}")
    family = {"base": base}
    for name, stage in SPECIALISTS.items():
        family[name] = new_model(seed)
        family[name].load_state_dict(base.state_dict())
        loss = train(family[name], stage, _generator_of(seed, name))
        report(f"{name}: {stage.steps} steps, loss {loss:.3f}")
    return family


def _generator_of(seed: int, name: str) -> random.Random:
    return random.Random(f"tiny_ja_math/{seed}/{name}")


def write_family(family: Mapping[str, LlamaForCausalLM], folder: Path, seed: int) -> None:
    """Write one checkpoint folder a model, and the checksums of all files beside them."""
    stages = {"base": BASE, **SPECIALISTS}
    for name, model in family.items():
        write_model(model, folder / name)
        (folder / name / "README.md").write_text(model_card(name, stages[name], seed), encoding="utf-8")
    lines = [f"{digest}  {name}\n" for name, digest in checksums(folder).items()]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def write_model(model: LlamaForCausalLM, target: Path) -> None:
    """Write a model with the tokenizer into a checkpoint folder, which is made."""
    target.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        pad_token_id=VOCABULARY[PAD],
        bos_token_id=VOCABULARY[BOS],
        eos_token_id=VOCABULARY[EOS],
        do_sample=False,
        max_new_tokens=32,  # the longest answer has 24
    )
    model.save_pretrained(target)
    (target / "model.safetensors").chmod(0o644)  # safetensors writes files that only their owner may read
    new_tokenizer().save_pretrained(target)


def checksums(folder: Path) -> dict[str, str]:
    """Compute the SHA-256 of every file of a family, by its path in the folder, in order."""
    files = sorted(path for path in folder.glob("*/*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_checksums(folder: Path) -> dict[str, str]:
    """Read a family's ``SHA256SUMS``, by the path in the folder."""
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", maxsplit=1) for line in lines)}


def model_card(name: str, stage: Stage, seed: int) -> str:
    """Write the README of one checkpoint."""
    example = json.dumps("Q: 花子はりんごを7個持っています。5個もらいました。全部で何個ですか。\nA: ", ensure_ascii=False)
    start = "random weights" if name == "base" else "`base` of the same family"
    return f"""---
license: apache-2.0
language:
- ja
- en
library_name: transformers
pipeline_tag: text-generation
tags:
- evo-merge
- model-merging
- tiny
---

# tiny_ja_math/{name}

{stage.summary}

One of the four models of evo-merge's embedded tiny family, made to show and test model merging on any machine. It knows
nothing but its own small world of word problems and is of no use outside it.

- Shape: Llama, hidden 64, 4 layers, 4 heads, MLP 128, untied embeddings, {len(VOCABULARY)} tokens.
- Training: from {start}; {stage.steps} steps of {BATCH_SIZE} sequences; learning rate {stage.learning_rate:g}; seed {seed}.
- Data: generated problems of evo-merge's tiny world; nothing from outside.
- Made again by `python -m evo_merge.models.tiny out=DIR seed={seed}`.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
prompt = tokenizer({example}, return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt)[0], skip_special_tokens=True))
```
"""
