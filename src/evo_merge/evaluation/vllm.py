"""Answers by vLLM: one engine for the whole run, into which each candidate's weights are loaded in place.

vLLM batches by itself, keeps the prefixes that prompts share, and drafts tokens by looking them up in the prompt. The model
that the assembler built stays in memory beside the engine; after every exchange of weights both say how probable the tokens of
a fixed text are, which they must agree on.
"""

import logging
import math
import os
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evo_merge.errors import ConfigError, UnusableCandidateError
from evo_merge.evaluation.generator import Completions
from evo_merge.evaluation.likelihood import LikelihoodBatch
from evo_merge.evaluation.prompts import PromptBatch
from evo_merge.evaluation.vllm_check import TOLERANCE, fixed_text, log_probabilities, window_of
from evo_merge.evaluation.vllm_engine import Engine, EngineDiedError, EngineRefusedError, interpreter
from evo_merge.evaluation.vllm_weights import deepened, fits, remove_weights, write_weights
from evo_merge.recipe import Recipe
from evo_merge.tasks.base import LogLikelihood

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class _Candidate:
    """Whose answers are wanted."""

    recipe: Recipe
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    tensors: Callable[[], Iterator[tuple[str, Tensor]]]

    @property
    def config(self) -> Any:
        return self.model.config


@dataclass
class _Running:
    """An engine, the config that it was started with, and whose weights are in it."""

    engine: Engine
    config: Any
    dtype: str
    recipe: Recipe | None = None


class VLLMGenerator:
    """Greedy decoding by a vLLM engine in a process of its own.

    Attributes:
        batch_size: Rows that the engine has in work together at most.
        prompts_at_once: All that are answered the same way: vLLM does the batching.
        drafts: It takes none; vLLM has its own.
        cache_bytes: What the engine takes for keys and values.
        counters: vLLM's own, over the life of the engine that runs: prefixes asked for and found, tokens drafted and accepted.
        largest_difference: Of all checks of exchanged weights, the largest mean difference of log-probabilities.
    """

    prompts_at_once: int | None = None
    drafts = False

    def __init__(
        self,
        *,
        batch_size: int,
        cache_gigabytes: float,
        python: str | None,
        window: int | None,
        speculation: Mapping[str, Any] | None,
    ) -> None:
        """Find vLLM; the engine starts with the first candidate.

        Args:
            batch_size: Rows that the engine has in work together at most.
            cache_gigabytes: Memory for keys and values, shared by all rows.
            python: The interpreter of an environment that has vLLM; ``None`` is this one.
            window: Tokens of the longest prompt with its answer; ``None`` is what the models can attend to. The cache must hold
                one such row.
            speculation: vLLM's ``speculative_config``; ``None`` drafts nothing.

        Raises:
            ConfigError: A number is out of range, or there is no vLLM.
        """
        if batch_size < 1:
            raise ConfigError(f"generator.batch_size must be at least 1, got {batch_size}")
        if not cache_gigabytes > 0:
            raise ConfigError(f"generator.cache_gigabytes must be above 0, got {cache_gigabytes}")
        if window is not None and window < 3:
            raise ConfigError(f"generator.window must be at least 3 or null, got {window}")
        self._python = interpreter(python)
        self.batch_size = batch_size
        self.cache_bytes = int(cache_gigabytes * 1e9)
        self._window, self._speculation = window, speculation
        self._candidate: _Candidate | None = None
        self._running: _Running | None = None
        self.counters: dict[str, float] = {}
        self.largest_difference = 0.0
        parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # weights pass through memory where they can
        self._folder = tempfile.TemporaryDirectory(prefix="evo_merge_vllm_", dir=parent)

    @property
    def process_id(self) -> int | None:
        """Of the engine; ``None`` where none runs."""
        return None if self._running is None else self._running.engine.process_id

    def load(
        self,
        recipe: Recipe,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        tensors: Callable[[], Iterator[tuple[str, Tensor]]],
    ) -> None:
        """Say whose answers are wanted next; the engine gets its weights when it is asked, unless it has them."""
        self._candidate = _Candidate(recipe, model, tokenizer, tensors)

    def release(self) -> None:
        """End the engine and let the candidate go; the next one starts another."""
        self._candidate = None
        self._close()

    def generate(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: PromptBatch) -> Completions:
        """Complete every prompt of a batch.

        Raises:
            UnusableCandidateError: A logit that would decide a token is not finite, or the engine died twice.
            ConfigError: There is no engine for these models, or it does not compute what they compute.
        """
        end_tokens = _end_tokens(model)
        sampling = {
            "max_tokens": batch.decoding.max_new_tokens,
            "stop": list(batch.decoding.stop),
            "stop_token_ids": end_tokens,
            "ignore_eos": True,  # what ends a sequence is what ends it for hf: the generation config's tokens
        }
        rows = [ids[mask.bool()].tolist() for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)]
        longest, room = max(map(len, rows)), window_of(model.config, self._window)
        if room is not None and longest + batch.decoding.max_new_tokens > room:  # vLLM would cut the answers
            raise ConfigError(
                f"a window of {room} tokens leaves {max(room - batch.decoding.max_new_tokens, 0)} for a prompt beside "
                f"{batch.decoding.max_new_tokens} new ones, and one has {longest}; raise generator.window or leave it null, or "
                "lower task.max_new_tokens"
            )
        found = self._with_engine(lambda engine: engine.answer(rows, sampling))
        self.counters = found["counters"]
        token_ids, texts = [], []
        for ids, not_finite in zip(found["tokens"], found["not_finite"], strict=True):
            kept, text = _ended(tokenizer, ids, end_tokens, batch.decoding.stop)
            if not_finite is not None and not_finite <= len(kept):
                raise UnusableCandidateError(f"logits are not finite at new token {not_finite}")
            token_ids.append(tuple(kept))
            texts.append(text)
        return Completions(batch.positions, tuple(token_ids), tuple(texts))

    def likelihoods(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: LikelihoodBatch
    ) -> tuple[LogLikelihood, ...]:
        """Score every continuation of a batch; each must fit the window with its context and a token more.

        Raises:
            UnusableCandidateError: One is not finite, or the engine died twice.
            ConfigError: As ``generate``.
        """
        rows = [[*each.context, *each.continuation] for each in batch.scored]
        chances, ranks = self._with_engine(lambda engine: engine.score(rows))
        found = []
        for each, own, placed in zip(batch.scored, chances, ranks, strict=True):
            start = len(each.context) - 1  # of the first token nothing is asked
            total = math.fsum(own[start:])
            if not math.isfinite(total):
                raise UnusableCandidateError(f"the log-likelihood of a continuation is not finite ({total})")
            is_greedy = all(rank == 1 for rank in placed[start:])
            found.append(LogLikelihood(total, is_greedy, len(each.continuation)))
        return tuple(found)

    def _with_engine(self, ask: Callable[[Engine], T]) -> T:
        """Ask the engine with the candidate's weights in it; one that dies is started again, once."""
        for last in (False, True):
            try:
                return ask(self._serving())
            except EngineRefusedError as error:
                raise ConfigError(f"vLLM refuses the prompts: {error}; see generator.window, or choose generator=hf") from error
            except EngineDiedError as error:
                self._close()
                log.warning("the vLLM engine died: %s", error)
                if last:
                    raise UnusableCandidateError(f"the vLLM engine died twice over this candidate: {error}") from error
        raise AssertionError("not reached")

    def _serving(self) -> Engine:
        """The engine, with the candidate's weights in it."""
        candidate = self._candidate
        if candidate is None:
            raise RuntimeError("no candidate is loaded; the evaluator calls load before it asks")
        dtype = candidate.recipe.out_dtype
        running = self._running
        if running is not None and running.recipe == candidate.recipe:
            return running.engine
        ids = fixed_text(candidate.config, self._window)
        expected = log_probabilities(candidate.model, ids)
        if not torch.isfinite(expected).all():  # before the engine is troubled with it
            raise UnusableCandidateError("logits are not finite after a fixed text")
        if running is not None and not (running.dtype == dtype and fits(candidate.config, running.config)):
            log.info("starting another vLLM engine for a model of %d layers", candidate.config.num_hidden_layers)
            self._close()
            running = None
        folder = Path(self._folder.name)
        room = candidate.config.num_hidden_layers if running is None else running.config.num_hidden_layers
        write_weights(deepened(candidate.tensors(), candidate.config.num_hidden_layers, room), folder)
        if running is None:
            running = self._running = _Running(self._start(candidate, folder), candidate.config, dtype)
        else:
            running.recipe = None
            running.engine.load(folder)
        remove_weights(folder)
        self._check(candidate, running.engine, ids, expected)
        running.recipe = candidate.recipe
        return running.engine

    def _start(self, candidate: _Candidate, folder: Path) -> Engine:
        config = type(candidate.config).from_dict(candidate.config.to_dict())
        config.architectures, config.dtype = [type(candidate.model).__name__], candidate.recipe.out_dtype
        config.save_pretrained(folder)
        candidate.tokenizer.save_pretrained(folder)
        settings = {
            "model": str(folder),
            "dtype": candidate.recipe.out_dtype,
            "max_model_len": self._window,
            "max_num_seqs": self.batch_size,
            "kv_cache_memory_bytes": self.cache_bytes,
            "gpu_memory_utilization": 0.01,  # with the cache's size given, only how much must be free at the start
            "enable_prefix_caching": True,
            "speculative_config": None if self._speculation is None else dict(self._speculation),
            "enforce_eager": True,  # what is compiled may hold the weights of the candidate that it was compiled with
            "generation_config": "vllm",  # nothing but what we ask for
            "disable_log_stats": False,  # the counters
            "use_tqdm_on_load": False,
        }
        engine = Engine(self._python, settings, folder / "log.txt")
        log.info("vLLM %s runs in process %d", engine.version, engine.process_id)
        return engine

    def _check(self, candidate: _Candidate, engine: Engine, ids: Sequence[int], expected: Tensor) -> None:
        """Whether engine and model agree on how probable the tokens of a fixed text are."""
        found = torch.tensor(engine.score([ids])[0][0], dtype=torch.float64)
        difference = float((found - expected).abs().mean())
        self.largest_difference = max(self.largest_difference, difference)
        tolerance = TOLERANCE[candidate.recipe.out_dtype]
        log.info("weights in the engine: log-probabilities differ by %.2g on average (at most %g)", difference, tolerance)
        if not difference <= tolerance:
            self._close()
            raise ConfigError(
                f"the vLLM engine does not compute what the candidate computes: log-probabilities of {len(ids)} tokens "
                f"differ by {difference:.3g} on average, and rounding in {candidate.recipe.out_dtype} explains {tolerance:g}; "
                "choose generator=hf for these models"
            )

    def _close(self) -> None:
        if self._running is not None:
            self._running.engine.close()
            self._running = None


def _ended(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], end_tokens: list[int], stop: tuple[str, ...]
) -> tuple[list[int], str]:
    """An answer's tokens up to the one that ends it, and its text; of drafted tokens vLLM may give some beyond."""

    def text_of(n: int) -> str:
        text = tokenizer.decode(ids[:n], skip_special_tokens=True)
        assert isinstance(text, str)
        return text

    n_tokens = next((i for i, token in enumerate(ids, 1) if token in end_tokens), len(ids))
    text = text_of(n_tokens)
    starts = [start for each in stop if (start := text.find(each)) >= 0]
    if not starts:
        return ids[:n_tokens], text
    # A stop string once in the text stays there, so the shortest such beginning is found by halving.
    counts = range(1, n_tokens + 1)
    first = counts[bisect_left(counts, 1, key=lambda n: int(any(each in text_of(n) for each in stop)))]
    return ids[:first], text[: min(starts)]


def _end_tokens(model: PreTrainedModel) -> list[int]:
    ids = None if model.generation_config is None else model.generation_config.eos_token_id
    if ids is None:
        return []
    return [int(token) for token in ids] if isinstance(ids, list | tuple) else [int(ids)]
