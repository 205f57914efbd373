"""The process in which vLLM runs: requests come as lines of JSON on its standard input, replies go to its standard output.

Run as a file, with nothing of evo-merge imported, so that vLLM may live in an environment of its own. Weights come in
safetensors files, so nothing is ever unpickled that came from outside. It ends with its standard input, that is with whoever
started it.

Requests, by their ``do``:

- ``load``: put the weights of a ``folder`` into the model in place and forget all cached prefixes.
- ``answer``: complete ``prompts`` (token ids), each with at most its ``max_tokens``, as ``sampling`` says; per prompt the new
  ``tokens``, perhaps some beyond its end, and how many there were with the first that logits which are not finite chose
  (``not_finite``, or null); besides vLLM's ``counters`` so far.
- ``score``: per prompt and token but the first its ``logprobs`` and ``ranks`` after the tokens before it.
"""

import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

_COUNTED = ("prefix_cache_queries", "prefix_cache_hits", "spec_decode_num_draft_tokens", "spec_decode_num_accepted_tokens")


class Server:
    """One engine, in this process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from vllm import LLM
        from vllm.platforms import current_platform

        if current_platform.is_cpu():
            # Only whole blocks of a prefix are found again, and 128 tokens, the default there, are longer than many a prompt.
            settings = {"block_size": 32, **settings}
        self._llm: Any = LLM(**settings)

    def load(self, folder: str) -> dict[str, Any]:
        """Replace the weights; packed projections are packed as when a model is read."""
        self._llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM could not forget its cached prefixes")
        return {}

    def answer(self, prompts: list[list[int]], max_tokens: list[int], sampling: dict[str, Any]) -> dict[str, Any]:
        """Greedy completions."""
        # What ends a sequence is in the request; the log-probability of each chosen token shows logits that are not finite.
        each = [{"max_tokens": most, "ignore_eos": True, "logprobs": 0, **sampling} for most in max_tokens]
        answers = [output.outputs[0] for output in self._ask(prompts, each)]
        counters = {metric.name.removeprefix("vllm:"): metric for metric in self._llm.get_metrics()}
        return {
            "tokens": [list(answer.token_ids) for answer in answers],
            "not_finite": [_first_not_finite(answer) for answer in answers],
            "counters": {name: counters[name].value for name in _COUNTED if name in counters},
        }

    def score(self, prompts: list[list[int]]) -> dict[str, Any]:
        """Log-probabilities and ranks of given tokens."""
        outputs = self._ask(prompts, [{"max_tokens": 1, "prompt_logprobs": 0}] * len(prompts))
        found: dict[str, Any] = {"logprobs": [], "ranks": []}
        for ids, output in zip(prompts, outputs, strict=True):
            own = [chances[token] for token, chances in zip(ids[1:], output.prompt_logprobs[1:], strict=True)]
            found["logprobs"].append([each.logprob for each in own])
            found["ranks"].append([each.rank for each in own])
        return found

    def _ask(self, prompts: list[list[int]], sampling: list[dict[str, Any]]) -> Any:
        from vllm import SamplingParams

        rows = [{"prompt_token_ids": ids} for ids in prompts]
        return self._llm.generate(rows, [SamplingParams(temperature=0.0, **each) for each in sampling], use_tqdm=False)


def _first_not_finite(answer: Any) -> int | None:
    chosen = zip(answer.token_ids, answer.logprobs, strict=True)
    return next((i for i, (token, all_) in enumerate(chosen, 1) if not math.isfinite(all_[token].logprob)), None)


def _serve(server: Server, replies: TextIO) -> None:
    known: dict[str, Callable[..., dict[str, Any]]] = {"load": server.load, "answer": server.answer, "score": server.score}
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        try:
            reply = known[do](**request)
        except ValueError as error:  # vLLM's way to refuse a request; the engine is as it was, but for half loaded weights
            reply = _failure(error) if do == "load" else {"refused": _failure(error)["error"]}
        except Exception as error:  # noqa: BLE001  whatever vLLM raises: who asked must hear of it
            reply = _failure(error)
        _say(replies, reply)


def _failure(error: Exception) -> dict[str, Any]:
    return {"error": " ".join(str(error).split()) or type(error).__name__}


def _say(replies: TextIO, reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


def main() -> int:
    """Start the engine with the settings of the first argument, say so, and serve."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # vLLM and what it loads print; that goes to the log
    try:
        server = Server(json.loads(sys.argv[1]))
    except Exception as error:  # noqa: BLE001  as above
        _say(replies, _failure(error))
        return 1
    import vllm

    _say(replies, {"version": vllm.__version__})
    _serve(server, replies)
    return 0


if __name__ == "__main__":
    sys.exit(main())
