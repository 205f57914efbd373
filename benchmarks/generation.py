"""What the generation loop gains, as ratios in one run: ``python benchmarks/generation.py FOLDER [PART…]``.

FOLDER holds ``data/`` and ``models/smollm2/``; searches are kept in ``generation_benchmark/`` of the working folder and not run
again. Parts: ``loop`` (ours against ``model.generate`` in its best fixed batch), ``tiny`` and ``smollm2`` (drafts over the
second half of a real search, embedded family and SmolLM2 adapters), ``degenerate`` (random merges with and without the rule),
``vllm`` (vLLM against ours; not run unless named, ``EVO_MERGE_VLLM_PYTHON`` names the Python that has it).
Seconds are of the processor, one thread, so that other programs on the machine count little; what counts is the ratio.
"""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from equality import MODEL, as_split, prompts
from hydra.utils import instantiate
from omegaconf import OmegaConf
from vllm_equality import engine_of, timed

from evo_merge.baselines import single_model
from evo_merge.evaluation.degenerate import Repetition
from evo_merge.evaluation.evaluator import Evaluator
from evo_merge.evaluation.hf import HuggingFaceGenerator
from evo_merge.evaluation.setup import new_evaluator, new_pool, new_trainer
from evo_merge.models.assemble import Assembler
from evo_merge.models.pool import Pool
from evo_merge.population import Neighbours
from evo_merge.ranking import count_evaluated
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Portion

OUT = Path("generation_benchmark")
FIXED = (8, 16)  # batch sizes of model.generate
N_PROMPTS, LIMIT = (8, 8), 256  # of mawps_ja and mgsm_ja
N_REPLAYED = 6
N_BROKEN, N_BROKEN_PROMPTS = 3, 6
RULE = Repetition(period=32, times=4, tokens=32)
SEARCHES = {
    "tiny": ["budget.evaluations=80", "task.limit.search=100", "task.limit.test=20"],
    "smollm2": [
        *("models=smollm2_ja_math", "models.adapters={folder}/models/smollm2", "task=smollm2_ja_math", "merge=dare_ties"),
        *("task.files.search={folder}/models/smollm2/search_ja.jsonl", "task.files.test={folder}/models/smollm2/test_ja.jsonl"),
        *("task.limit.search=8", "task.limit.test=2", "budget.evaluations=18", "optimizer.sigma0=0.1"),
    ],
}


def main() -> int:
    """Print one table, a line a measurement."""
    torch.set_num_threads(1)
    folder, parts = Path(sys.argv[1]).resolve(), sys.argv[2:] or ["loop", "tiny", "smollm2", "degenerate"]
    OUT.mkdir(exist_ok=True)
    print(f"{'what':<52}{'tokens':>8}{'seconds':>9}{'ratio':>8}", flush=True)
    for part in parts:
        {"loop": loop, "degenerate": degenerate, "vllm": vllm}.get(part, lambda folder, part=part: drafts(folder, part))(folder)
    return 0


def line(what: str, tokens: int, seconds: float, ratio: float) -> None:
    """One row of the table."""
    print(f"{what:<52}{tokens:>8}{seconds:>9.1f}{ratio:>8.2f}", flush=True)


def loop(folder: Path) -> None:
    """The same prompts through ``model.generate`` in batches sorted by length, and through ours, without drafts or the rule."""
    pool = Pool(base=None, sources=[{"name": "smollm2", "model": MODEL}])
    model = Assembler(pool, torch.device("cpu")).assemble(single_model(pool.leader.reference, pool.out_dtype)).float()
    rows = prompts(pool.tokenizer, folder / "data", N_PROMPTS)
    ends = torch.tensor(model.generation_config.eos_token_id).flatten()
    (batch,), tokens = as_split(rows, LIMIT), 0
    fixed = {}
    for size in FIXED:
        started = time.process_time()
        lengths = {}
        for first in range(0, len(rows), size):
            part = range(first, min(first + size, len(rows)))
            ids, mask = trimmed(batch.input_ids[part.start : part.stop], batch.attention_mask[part.start : part.stop])
            found = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=LIMIT)
            for i, row in zip(part, found[:, ids.shape[1] :], strict=True):
                stops = torch.isin(row, ends).nonzero().flatten().tolist()
                lengths[i] = stops[0] + 1 if stops else len(row)
        fixed[size] = time.process_time() - started
        tokens = sum(lengths.values())
        line(f"model.generate, batch size {size}", tokens, fixed[size], 1.0)
    for size in FIXED:
        generator = HuggingFaceGenerator(batch_size=size, token_budget=None, degenerate=None, drafts=False)
        started = time.process_time()
        completions = generator.generate(model, pool.tokenizer, batch)
        seconds = time.process_time() - started
        n_tokens = sum(map(len, completions.token_ids))
        line(f"ours, batch size {size}", n_tokens, seconds, n_tokens / seconds / (tokens / min(fixed.values())))


def vllm(folder: Path) -> None:
    """The prompts of ``loop`` through ours and a vLLM engine that runs already, both without drafts."""
    pool = Pool(base=None, sources=[{"name": "smollm2", "model": MODEL}], out_dtype="float32")
    assembler, recipe = Assembler(pool, torch.device("cpu")), single_model(pool.leader.reference, "float32")
    model = assembler.assemble(recipe)
    (batch,) = as_split(prompts(pool.tokenizer, folder / "data", N_PROMPTS), LIMIT)
    ours = HuggingFaceGenerator(batch_size=max(FIXED), token_budget=None, degenerate=None, drafts=False)
    engine = engine_of(os.environ.get("EVO_MERGE_VLLM_PYTHON"), max(FIXED), window=1024, speculation=None)
    engine.load(recipe, model, pool.tokenizer, lambda: assembler.tensors(recipe))
    engine.generate(model, pool.tokenizer, as_split([(1, 2, 3)], 2).batches[0])  # starts it
    speeds = []
    for name, generator in (("ours", ours), ("vLLM", engine)):
        found, seconds, _ = timed(engine, partial(generator.generate, model, pool.tokenizer, batch))
        n_tokens = sum(map(len, found.token_ids))
        speeds.append(n_tokens / seconds)
        line(f"{name}, batch size {max(FIXED)}", n_tokens, seconds, speeds[-1] / speeds[0])
    engine.release()


def trimmed(ids, mask) -> tuple[torch.Tensor, torch.Tensor]:
    """Without the columns that are padding in every row."""
    first = int(mask.any(dim=0).nonzero()[0])
    return ids[:, first:], mask[:, first:]


def drafts(folder: Path, name: str) -> None:
    """A search, once; then candidates of its second half with the drafts that they had, and without."""
    run = OUT / name
    if not (run / "summary.json").is_file():
        searched([word.format(folder=folder) for word in SEARCHES[name]], run)
    with opened(Study.read(run)) as study:
        config = OmegaConf.create(study.get("config") or "")
        candidates = study.candidates()
        later = candidates[len(candidates) // 2 :]
        known = [study.evaluation(c.recipe, c.portion) for c in later]
        pairs = [(c, e) for c, e in zip(later, known, strict=True) if e is not None and e.failure is None]
        tokens, accepted, drafted = (
            sum(getattr(e.cost, n) for _, e in pairs) for n in ("new_tokens", "n_accepted", "n_drafted")
        )
        line(f"{name}: tokens of {len(pairs)} of {count_evaluated(study)} candidates", tokens, 0.0, 1.0)
        line(f"{name}: of them decoded one at a time ({drafted} drafted)", tokens - accepted, 0.0, tokens / (tokens - accepted))
        replayed = [pairs[i][0] for i in np.linspace(0, len(pairs) - 1, min(N_REPLAYED, len(pairs))).astype(int)]
        evaluator = evaluator_of(config)
        seconds = {False: 0.0, True: 0.0}
        answers: dict[bool, list] = {False: [], True: []}
        n_tokens = 0
        for candidate in replayed:
            for uses in (False, True):
                evaluator._drafts = Neighbours(study) if uses else None
                started = time.process_time()
                evaluator.assembler.assemble(candidate.recipe)
                merged = time.process_time()
                evaluation = evaluator.evaluate(candidate.recipe, Portion("search"))  # which merges it again
                seconds[uses] += time.process_time() - merged - (merged - started)
                answers[uses] += evaluation.completions
            n_tokens += evaluation.cost.new_tokens
        same = sum(map(str.__eq__, answers[False], answers[True]))
        line(f"{name}: {len(replayed)} of them without drafts", n_tokens, seconds[False], 1.0)
        line(
            f"{name}: with ({same} of {len(answers[True])} answers equal)",
            n_tokens,
            seconds[True],
            seconds[False] / seconds[True],
        )


def searched(words: list[str], run: Path) -> None:
    """Run a search into a folder; one that was broken off goes on."""
    began = (run / "study.sqlite").is_file()
    more = [f"resume={run}"] if began else [*words, f"hydra.run.dir={run}"]
    command = [sys.executable, "-m", "evo_merge", *more, "tracker=none", "trainer=cpu"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def evaluator_of(config) -> Evaluator:
    """What scores the candidates of a run."""
    pool = new_pool(config)
    trainer = new_trainer(config)
    assembler = Assembler(pool, trainer.strategy.root_device)
    task, generator = (instantiate(each, _convert_="all") for each in (config.task, config.generator))
    return new_evaluator(assembler, task, generator, trainer, ["search"], ())


def degenerate(folder: Path) -> None:
    """Merges of the SmolLM2 family with weights far outside of what helps, each with and without the rule."""
    pool = Pool(
        base=MODEL,
        sources=[{"name": n, "adapter": str(folder / "models/smollm2" / n), "base": MODEL} for n in ("ja", "math_a", "math_b")],
    )
    assembler = Assembler(pool, torch.device("cpu"))
    (batch,) = as_split(prompts(pool.tokenizer, folder / "data", (N_BROKEN_PROMPTS, 0)), LIMIT)
    draw = np.random.default_rng(0)
    seconds, tokens = {None: 0.0, RULE: 0.0}, {None: 0, RULE: 0}
    n_given_up = 0
    for seed in range(N_BROKEN):
        weights = tuple(float(w) for w in draw.uniform(-2, 3, size=3))
        recipe = ParameterSpaceRecipe(
            pool.base.reference,
            pool.recipe_sources,
            "dare_ties",
            {},
            (ParameterRule(("*",), {"weight": weights, "density": (0.5, 0.5, 0.5)}),),
            seed,
            "float32",
            pool.out_dtype,
        )
        model = assembler.assemble(recipe)
        for rule in seconds:
            generator = HuggingFaceGenerator(batch_size=N_BROKEN_PROMPTS, token_budget=None, degenerate=rule, drafts=False)
            started = time.process_time()
            found = generator.generate(model, pool.tokenizer, batch)
            seconds[rule] += time.process_time() - started
            tokens[rule] += sum(map(len, found.token_ids))
            n_given_up += found.n_degenerate
    line(f"{N_BROKEN} random merges, every answer to its end", tokens[None], seconds[None], 1.0)
    what = f"degenerate answers given up ({n_given_up} of {N_BROKEN * N_BROKEN_PROMPTS})"
    line(what, tokens[RULE], seconds[RULE], seconds[None] / seconds[RULE])


if __name__ == "__main__":
    sys.exit(main())
