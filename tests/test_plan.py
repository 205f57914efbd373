"""``plan=true`` for models of real size: files of 14 GB whose data is a hole, and a hub on this machine with headers alone."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from evo_merge.models import tiny

HIDDEN, INNER, N_LAYERS, KEY_VALUE, VOCABULARY = 4096, 14336, 32, 1024, 32000  # Mistral-7B-v0.1's
CONFIG = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def header() -> tuple[bytes, int]:
    """The header of a safetensors file with all of Mistral-7B, and the bytes of its data."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        "lm_head.weight": (VOCABULARY, HIDDEN),
    }
    shapes["model.norm.weight"] = (HIDDEN,)
    for layer in range(N_LAYERS):
        for name, shape in {
            "self_attn.q_proj": (HIDDEN, HIDDEN),
            "self_attn.k_proj": (KEY_VALUE, HIDDEN),
            "self_attn.v_proj": (KEY_VALUE, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HIDDEN),
            "mlp.gate_proj": (INNER, HIDDEN),
            "mlp.up_proj": (INNER, HIDDEN),
            "mlp.down_proj": (HIDDEN, INNER),
            "input_layernorm": (HIDDEN,),
            "post_attention_layernorm": (HIDDEN,),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    tensors: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        tensors[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text, end


def save(folder: Path) -> Path:
    """A model folder of 14.5 GB that takes a few kilobytes of disk."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    start, size = header()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(start)
        file.truncate(len(start) + size)
    return folder


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name local problems instead of the hub's."""
    folder = tmp_path_factory.mktemp("questions")
    words = []
    for split, n, first in (("search", 300, 0), ("validation", 200, 1000), ("test", 250, 2000)):
        rows = [{"question": f"{first + i}たす1はいくつですか。", "answer_number": first + i + 1} for i in range(n)]
        file = folder / f"{split}.jsonl"
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        words.append(f"task.files.{split}={file}")
    return words


def check_plan(text: str) -> None:
    assert re.search(r"genes +4286: slot/", text)
    assert re.search(r"tokens +at most 204,800 a candidate", text)  # a batch of 200, 1024 new tokens each
    models = re.search(r"memory +models ([\d.]+) GB", text)
    assert models is not None
    assert float(models[1]) == pytest.approx(2 * 14.48, abs=0.02)
    assert "up to 192 layers, in bfloat16" in text
    assert re.search(r"time +about [\d.]+ (h|min|s) a candidate", text)
    assert re.search(r"disk +[\d.]+ GB for the merged model", text)


def planned(folder: Path, *words: str, **surroundings: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, since the hub's library reads its settings when it is imported."""
    command = [sys.executable, "-m", "evo_merge", "experiment=evollm_jp_10b", "plan=true", *words]
    return subprocess.run(
        command, cwd=folder, env=os.environ | surroundings, capture_output=True, text=True, check=False, timeout=240
    )


def test_a_plan_for_two_7b_models_reads_only_headers(tmp_path: Path, questions: list[str]) -> None:
    for name in ("a", "b"):
        save(tmp_path / name)
    models = [f"models.sources=[{{name: evollm_jp, model: {tmp_path / 'a'}}}, {{name: shisa_gamma, model: {tmp_path / 'b'}}}]"]
    ended = planned(tmp_path, *models, *questions)
    assert "Traceback" not in ended.stderr
    assert ended.stdout, ended.stderr
    check_plan(ended.stdout)
    assert re.search(r"licences +evollm_jp: unknown, shisa_gamma: unknown\n +the merge: unknown\.", ended.stdout)
    if ended.returncode:  # on a machine without the memory the plan ends with the refusal
        assert ended.returncode == 2
        assert re.search(r"the models whose layers paths run through take 28.9\d GB of memory", ended.stderr)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a plan asks for: file lists, configs, and the beginnings of weights."""

    asked: ClassVar[list[tuple[str, str, str | None]]] = []

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        span = self.headers.get("Range")
        type(self).asked.append((self.command, self.path, span))
        body, size = self._content()
        if body is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if span is not None:
            first, last = (int(end) for end in span.removeprefix("bytes=").split("-"))
            body = body[first : last + 1]
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("ETag", '"' + "f" * 40 + '"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if with_body else size))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _content(self) -> tuple[bytes | None, int]:
        if "/tree/" in self.path:
            sizes = {"config.json": len(json.dumps(CONFIG)), "model.safetensors": sum(map(len, header()[:1])) + header()[1]}
            body = json.dumps(
                [{"type": "file", "path": n, "size": size, "oid": "f" * 40} for n, size in sizes.items()]
            ).encode()
        elif self.path.startswith("/api/models/"):
            files = [{"rfilename": name} for name in ("config.json", "model.safetensors")]
            name = "/".join(self.path.split("/")[3:5])
            body = json.dumps({"id": name, "modelId": name, "sha": COMMIT, "private": False, "siblings": files}).encode()
        elif self.path.endswith("/config.json"):
            body = json.dumps(CONFIG).encode()
        elif self.path.endswith("/model.safetensors"):
            start, size = header()
            return start, len(start) + size
        else:
            return None, 0
        return body, len(body)

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()


def test_a_plan_for_models_on_the_hub_fetches_no_weights(hub: str, tmp_path: Path, questions: list[str]) -> None:
    ended = planned(
        tmp_path, *questions, HF_ENDPOINT=hub, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "hub"), HF_HUB_DISABLE_XET="1"
    )
    assert "Traceback" not in ended.stderr
    assert ended.stdout, ended.stderr
    check_plan(ended.stdout)
    assert ended.returncode in (0, 2)
    weights = [span for _, path, span in Hub.asked if path.endswith("model.safetensors") and span is not None]
    assert weights  # the headers were asked for,
    assert all(span.startswith("bytes=0-") and int(span.split("-")[1]) < 1_000_000 for span in weights)
    whole = [path for method, path, span in Hub.asked if method == "GET" and span is None]
    assert not any(path.endswith("model.safetensors") for path in whole)  # and nothing else
    assert f"SakanaAI/EvoLLM-JP-v1-7B@{COMMIT}" in ended.stdout
    licences = r"licences +evollm_jp: microsoft-research-license, shisa_gamma: unknown\n +the merge: research-only\."
    assert re.search(licences, ended.stdout)  # what the pool states of the first, and no cards


def test_a_plan_says_which_sources_are_left_out_for_their_licence(tmp_path: Path) -> None:
    family = Path(tiny.__file__).parent / "tiny_ja_math"
    other = shutil.copytree(family / "math_a", tmp_path / "other")
    (other / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    sources = f"models.sources=[{family / 'ja'}, {family / 'math_b'}, {other}]"
    command = [sys.executable, "-m", "evo_merge", "plan=true", "models.licences=permissive", sources]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert ended.returncode == 0, ended.stderr
    listed = "base: apache-2.0, ja: apache-2.0, math_b: apache-2.0; left out: other states cc-by-nc-4.0 (non-commercial)"
    assert re.search(rf"licences +{re.escape(listed)}\n +the merge: permissive\.", ended.stdout)
    assert "models.licences=permissive leaves out: 'other' states cc-by-nc-4.0 (non-commercial)" in ended.stdout


def test_a_plan_counts_what_a_method_keeps_beside_the_models(command) -> None:
    kept = "what the method finds once of them about 2.9 MB, "  # knots: a basis, and each of three sources in it
    plans = {merge: command("plan=true", f"merge={merge}").out for merge in ("knots", "task_arithmetic")}
    assert f"models 2.9 MB, {kept}one candidate 0.7 MB in float32" in plans["knots"]
    assert "models 2.9 MB, one candidate 0.7 MB in float32" in plans["task_arithmetic"]
