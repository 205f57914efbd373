"""Whether ``generator=vllm`` answers as ``hf`` does, and how fast: ``benchmarks/vllm_equality.py MODEL MODEL --data FILE``.

The two models, of one architecture, are averaged at several weights, in float32. Each of these candidates is loaded into one
engine in place and answers the first problems of FILE (JSONL with ``question``, in the models' chat template), and so does
``hf``, without drafts. Printed for each: what the check of the weights found, what it would find had weights stayed those of
the candidate before (all of them; one tensor of a middle layer; the embeddings), how many answers are string-equal, and the
seconds of both. Of an answer that differs, the first difference is shown, and how far apart the two best logits are there. Last
come candidates far outside of what helps, which are only loaded and checked.

Seconds are of the processor, one thread, both processes; those in brackets are of the clock. The exit code is 1 where fewer
than 99 % of the answers are equal.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from equality import as_split

from evo_merge.evaluation.chat import as_tokens
from evo_merge.evaluation.hf import HuggingFaceGenerator
from evo_merge.evaluation.vllm.check import TOLERANCE, fixed_text, log_probabilities
from evo_merge.evaluation.vllm.generator import VLLMGenerator
from evo_merge.evaluation.vllm.serving import Candidate
from evo_merge.models.assemble import Assembler
from evo_merge.models.pool import Pool
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe

WEIGHTS = (0.5, 0.52, 0.3)  # of the first model; the first two are as near as neighbours in a late generation
BROKEN = (3.0, -6.0, 20.0)
WINDOW, ENOUGH = 512, 0.99
NGRAM = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4, "prompt_lookup_min": 2}
T = TypeVar("T")
STALE = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "input_layernorm", "embed_tokens")


def main() -> int:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs=2)
    parser.add_argument("--data", required=True)
    parser.add_argument("--n", type=int, default=120)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--candidates", type=int, default=len(WEIGHTS))
    parser.add_argument("--speculation", type=json.loads, default=NGRAM, help="vLLM's speculative_config as JSON, or null")
    parser.add_argument("--python", default=os.environ.get("EVO_MERGE_VLLM_PYTHON"), help="of the environment that has vLLM")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sources = [{"name": name, "model": path} for name, path in zip("ab", given.models, strict=True)]
    pool = Pool(base=None, sources=sources, out_dtype="float32")
    assembler = Assembler(pool, torch.device("cpu"))
    questions = [json.loads(line)["question"] for line in Path(given.data).read_text(encoding="utf-8").splitlines()[: given.n]]
    chats = [[{"role": "system", "content": ""}, {"role": "user", "content": question}] for question in questions]
    (batch,) = as_split([tuple(as_tokens(pool.tokenizer, chat)) for chat in chats], given.new_tokens)
    engine = engine_of(given.python, given.batch_size, speculation=given.speculation)
    theirs = HuggingFaceGenerator(batch_size=given.batch_size, degenerate=None, drafts=False)
    equal: list[bool] = []
    seconds = {"vllm": 0.0, "hf": 0.0}
    before: dict[str, torch.Tensor] = {}
    for weight in WEIGHTS[: given.candidates]:
        candidate = loaded(engine, assembler, weight)
        if before:
            print(f"  what the check would find, beside {TOLERANCE['float32']:g}: {what_stale_would_show(candidate, before)}")
        before = {name: tensor.detach().clone() for name, tensor in candidate.tensors()}
        found = {}
        for name, generator in (("vllm", engine), ("hf", theirs)):
            ask = partial(generator.generate, candidate.model, pool.tokenizer, batch)
            found[name], spent, wall = timed(engine, ask)
            seconds[name] += spent
            n_tokens = sum(map(len, found[name].token_ids))
            print(f"  {name:<5}{n_tokens:>7} tokens in {spent:.1f} s ({wall:.1f})", flush=True)
        print(f"  vLLM's counters so far: {engine.counters}")
        same = [a == b for a, b in zip(found["vllm"].texts, found["hf"].texts, strict=True)]
        for row in [row for row, is_same in enumerate(same) if not is_same]:
            print(f"    row {batch.positions[row]} {first_difference(candidate.model, batch, row, found)}")
        print(f"weight {weight}: {sum(same)} of {len(same)} answers equal", flush=True)
        equal += same
    for weight in BROKEN:
        loaded(engine, assembler, weight)
    engine.release()
    print(f"{sum(equal)} of {len(equal)} answers equal; vLLM {seconds['hf'] / seconds['vllm']:.2f} times as fast as hf")
    return int(sum(equal) < ENOUGH * len(equal))


def engine_of(python: str | None, batch_size: int, window: int = WINDOW, speculation: Mapping[str, Any] | None = NGRAM):
    """vLLM, with little memory."""
    settings = {"batch_size": batch_size, "cache_gigabytes": 0.5, "window": window, "speculation": speculation}
    return VLLMGenerator(python=python, degenerate=None, tolerance=None, **settings)


def loaded(engine: VLLMGenerator, assembler: Assembler, weight: float) -> Candidate:
    """The two models' average in the engine, checked."""
    pool = assembler.pool
    rule = ParameterRule(("*",), {"weight": (weight, 1 - weight)})
    recipe = ParameterSpaceRecipe(None, pool.recipe_sources, "linear", {}, (rule,), 0, "float32", "float32")
    candidate = Candidate(recipe, assembler.assemble(recipe), pool.tokenizer, lambda: assembler.tensors(recipe))
    engine.load(recipe, candidate.model, pool.tokenizer, candidate.tensors)
    _, spent, wall = timed(engine, lambda: engine.serving.ask(candidate, lambda _: None))
    difference = engine.serving.differences[-1]
    print(f"weight {weight}: in the engine after {spent:.1f} s ({wall:.1f}), differs by {difference:.2g}", flush=True)
    return candidate


def timed(engine: VLLMGenerator, do: Callable[[], T]) -> tuple[T, float, float]:
    """What it gives, and its seconds of the processor, the engine's included, and of the clock."""
    started, spent = time.perf_counter(), spent_by(engine)
    given = do()
    return given, spent_by(engine) - spent, time.perf_counter() - started


def spent_by(engine: VLLMGenerator) -> float:
    """Seconds of the processor, so far, of this process and the engine's."""
    process = engine.serving.process_id
    times = [psutil.Process(each).cpu_times() for each in (None, process) if each is None or process is not None]
    return sum(each.user + each.system for each in times)


def what_stale_would_show(candidate: Candidate, before: dict[str, torch.Tensor]) -> str:
    """How far the log-probabilities of the check's text move where weights stay those of the candidate before."""
    model = candidate.model
    ids = fixed_text(model.config, WINDOW)
    expected = log_probabilities(model, ids)
    tensors = dict(candidate.tensors())
    middle = f"layers.{model.config.num_hidden_layers // 2}."

    def moved(names: list[str]) -> float:
        own = {name: tensors[name].detach().clone() for name in names}
        with torch.no_grad():
            for name in names:
                tensors[name].copy_(before[name])
            difference = float((log_probabilities(model, ids) - expected).abs().mean())
            for name in names:
                tensors[name].copy_(own[name])
        return difference

    shown = {"all": moved(list(tensors))}
    for each in STALE:
        shown[each] = moved([name for name in tensors if each in name and (middle in name or "layers." not in name)])
    return ", ".join(f"{name} {value:.2g}" for name, value in shown.items())


def first_difference(model, batch, row, found) -> str:
    """Where two answers part, and how far apart the two best logits are there."""
    a, b = found["vllm"].token_ids[row], found["hf"].token_ids[row]
    at = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    prompt = batch.input_ids[row][batch.attention_mask[row].bool()]
    with torch.inference_mode():
        logits = model(input_ids=torch.cat([prompt, torch.tensor(b[:at], dtype=torch.int64)])[None]).logits[0, -1]
    best = logits.topk(2).values
    return f"differs at token {at}, where the two best logits are {float(best[0] - best[1]):.2g} apart"


if __name__ == "__main__":
    sys.exit(main())
