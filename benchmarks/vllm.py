"""Answers of ``generator=vllm`` beside those of ``generator=hf``: ``python benchmarks/vllm.py MODEL MODEL --data FILE.jsonl``.

The two models are averaged at three weights. Each of these candidates is loaded into one engine in place, answers all
problems, and its answers are compared with those of ``hf``. Printed for each: how many answers are equal, the mean difference
of the check's log-probabilities beside that to the candidate before (what stale weights would show), seconds, vLLM's counters.
"""

import argparse
import os
import time
from pathlib import Path

import torch
import yaml

from evo_merge.evaluation.hf import HuggingFaceGenerator
from evo_merge.evaluation.prompts import render_split
from evo_merge.evaluation.vllm import VLLMGenerator
from evo_merge.evaluation.vllm_check import fixed_text, log_probabilities
from evo_merge.models.assemble import Assembler
from evo_merge.models.pool import Pool
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.tasks.question_answer import QuestionAnswer

CONF = Path(__file__).parent.parent / "conf"
WEIGHTS = (0.5, 0.52, 0.3)  # of the first model; the first two are as near as neighbours in a late generation


def averaged(pool: Pool, weight: float, dtype: str) -> ParameterSpaceRecipe:
    """The two models, the first with this weight."""
    sources = tuple(Source(model.name, model.reference) for model in pool.sources)
    rule = ParameterRule(("*",), {"weight": (weight, 1 - weight)})
    return ParameterSpaceRecipe(None, sources, "linear", {}, (rule,), 0, dtype, dtype)


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs=2)
    parser.add_argument("--data", required=True)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--new-tokens", type=int, default=60)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--candidates", type=int, default=len(WEIGHTS))
    parser.add_argument("--no-hf", action="store_true", help="only load, check and time vLLM")
    parser.add_argument("--again", action="store_true", help="ask each candidate twice")
    parser.add_argument("--python", default=None)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    options = yaml.safe_load((CONF / "task/smollm2_ja_math.yaml").read_text())
    options = {name: value for name, value in options.items() if name not in ("defaults", "_target_")}
    options |= {"files": {"test": given.data}, "limit": {"test": given.n}, "max_new_tokens": given.new_tokens}
    settings = yaml.safe_load((CONF / "generator/vllm.yaml").read_text())
    settings |= {"python": given.python, "cache_gigabytes": 1.0, "window": 1024}
    del settings["_target_"]
    sources = [{"name": name, "model": path} for name, path in zip("ab", given.models, strict=True)]
    pool = Pool(base=None, sources=sources, out_dtype=given.dtype)
    assembler = Assembler(pool, torch.device("cpu"))
    task, engine = QuestionAnswer(**options), VLLMGenerator(**settings)
    (batch,) = render_split(task, "test", pool.tokenizer, None, None)
    counted: dict[str, float] = {}
    before = None
    for weight in WEIGHTS[: given.candidates]:
        recipe = averaged(pool, weight, given.dtype)
        model = assembler.assemble(recipe)
        own = log_probabilities(model, fixed_text(model.config, None))
        apart = float("nan") if before is None else float((own - before).abs().mean())
        before = own
        started = time.perf_counter()
        engine.largest_difference = 0.0
        engine.load(recipe, model, pool.tokenizer, lambda recipe=recipe: assembler.tensors(recipe))
        engine._serving()
        loaded = time.perf_counter()
        ours = engine.generate(model, pool.tokenizer, batch)
        answered = time.perf_counter()
        n_tokens = sum(map(len, ours.token_ids))
        moved = {name: value - counted.get(name, 0) for name, value in engine.counters.items()}
        counted = dict(engine.counters)
        print(
            f"weight {weight}: loaded in {loaded - started:.1f} s, log-probabilities differ by "
            f"{engine.largest_difference:.2g}, from the candidate before by {apart:.2g}; {n_tokens} tokens in "
            f"{answered - loaded:.1f} s "
            f"({n_tokens / (answered - loaded):.0f} a second); {moved}",
            flush=True,
        )
        if given.again:
            again = engine.generate(model, pool.tokenizer, batch)
            print(f"  asked again, with its prefixes cached: {_equal(ours.texts, again.texts)} equal", flush=True)
        if given.no_hf:
            continue
        started = time.perf_counter()
        theirs = [""] * given.n
        generator = HuggingFaceGenerator(batch_size=32)
        for part in render_split(task, "test", pool.tokenizer, None, 32):
            found = generator.generate(model, pool.tokenizer, part)
            for position, text in zip(found.positions, found.texts, strict=True):
                theirs[position] = text
        seconds = time.perf_counter() - started
        in_order = [text for _, text in sorted(zip(ours.positions, ours.texts, strict=True))]
        print(f"  {_equal(in_order, theirs)} equal to hf, which took {seconds:.1f} s in batches of 32", flush=True)
        for i, (a, b) in enumerate(zip(in_order, theirs, strict=True)):
            if a != b:
                print(f"    {i}: vllm {a!r}\n       hf   {b!r}", flush=True)
    engine.release()


def _equal(a: list[str] | tuple[str, ...], b: list[str] | tuple[str, ...]) -> str:
    return f"{sum(map(str.__eq__, a, b))} of {len(a)}"


if __name__ == "__main__":
    main()
