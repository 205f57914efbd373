"""How long the check of a pool takes on the headers of 7B models: ``python benchmarks/check.py FOLDER``.

Writes a base and two sources of Llama-2-7B's shape, in three shards each, into FOLDER. The files are sparse: only the blocks
that the check looks at hold numbers, so that 40 GB take a few megabytes of disk, and reading them is as fast as from a warm
cache.
"""

import json
import sys
import time
from math import prod
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, PreTrainedTokenizerFast

from evo_merge.models import compatibility
from evo_merge.models.checks.alone import licence_findings
from evo_merge.models.checks.facts import expected_shapes
from evo_merge.models.checks.samples import places
from evo_merge.models.pool import Pool

N_SHARDS, N_TOKENS = 3, 32_000
CONFIG = LlamaConfig(
    vocab_size=N_TOKENS,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    bos_token_id=0,
    eos_token_id=1,
    architectures=["LlamaForCausalLM"],
)


def write_model(folder: Path, seed: int) -> None:
    """Write a model near that of seed 0."""
    CONFIG.save_pretrained(folder)
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(N_TOKENS)}, unk_token="w2"))
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="w0", eos_token="w1", unk_token="w2").save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    shapes = expected_shapes("7b", CONFIG)
    assert shapes is not None
    names, weight_map = list(shapes), {}
    for number in range(N_SHARDS):
        shard = names[number::N_SHARDS]
        file = f"model-{number + 1:05d}-of-{N_SHARDS:05d}.safetensors"
        _write_shard(folder / file, {name: shapes[name] for name in shard}, seed)
        weight_map |= dict.fromkeys(shard, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _write_shard(path: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + 2 * prod(shape)]}
        end += 2 * prod(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        begin = file.tell()
        file.truncate(begin + end)
        for name, shape in shapes.items():
            for start, stop in places(prod(shape)):
                common = 0.02 * torch.randn(stop - start, generator=torch.Generator().manual_seed(start))
                own = 0.001 * seed * torch.randn(stop - start, generator=torch.Generator().manual_seed(start + seed))
                file.seek(begin + header[name]["data_offsets"][0] + 2 * start)
                file.write((common + own).bfloat16().view(torch.int16).numpy().tobytes())


def main(root: Path) -> None:
    """Write the models, check them and print the seconds."""
    for seed, name in enumerate(("base", "a", "b")):
        write_model(root / name, seed)
    wall, cpu = time.perf_counter(), time.process_time()
    pool = Pool(base=str(root / "base"), sources=[str(root / name) for name in "ab"])
    described = compatibility.describe(pool.base, pool.sources)
    found = compatibility.for_mixing(described)
    of_headers = time.process_time() - cpu
    found += [*compatibility.in_values(described, found), *licence_findings(pool.models)]
    seconds, all_cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{len(found)} findings, {seconds:.2f} s; of a core {all_cpu:.2f} s, of which headers and tokenizers {of_headers:.2f} s"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
