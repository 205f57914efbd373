"""Answers by vLLM: one engine for the whole run, into which each candidate's weights are loaded in place.

vLLM batches by itself, keeps the prefixes that prompts share, and drafts tokens by looking them up in the prompt. Where an
answer ends is decided by the same code as for ``hf``: what vLLM gives beyond is cut, and where it stopped too early it goes on.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evo_merge.errors import ConfigError, UnusableCandidateError
from evo_merge.evaluation.answers import Answer, Ending, end_tokens
from evo_merge.evaluation.degenerate import Repetition, checked
from evo_merge.evaluation.generator import Completions
from evo_merge.evaluation.likelihood import LikelihoodBatch
from evo_merge.evaluation.prompts import PromptBatch
from evo_merge.evaluation.vllm.check import window_of
from evo_merge.evaluation.vllm.engine import interpreter
from evo_merge.evaluation.vllm.serving import Candidate, Serving
from evo_merge.recipe import Recipe
from evo_merge.tasks.base import LogLikelihood

_ROUND = 128  # tokens after which answers that repeat themselves are looked for; vLLM knows no such rule


class VLLMGenerator:
    """Greedy decoding by a vLLM engine in a process of its own.

    Attributes:
        batch_size: Rows that the engine has in work together at most.
        packs_prompts: A call is given all prompts there are: vLLM does the batching.
        drafts: It takes none; vLLM has its own.
        cache_bytes: What the engine takes for keys and values.
        window: Tokens of the longest prompt with its answer; ``None`` is what the models can attend to.
        counters: vLLM's own, over the life of the engine that runs: prefixes asked for and found, tokens drafted and accepted.
    """

    packs_prompts: bool = True
    drafts: bool = False

    def __init__(
        self,
        *,
        batch_size: int,
        cache_gigabytes: float,
        python: str | None,
        window: int | None,
        speculation: Mapping[str, Any] | None,
        degenerate: Repetition | None,
        tolerance: float | None,
    ) -> None:
        """Find vLLM; the engine starts with the first candidate.

        Args:
            batch_size: Rows that the engine has in work together at most.
            cache_gigabytes: Memory for keys and values, shared by all rows.
            python: The interpreter of an environment that has vLLM; ``None`` is this one.
            window: Tokens of the longest prompt with its answer; ``None`` is what the models can attend to. The cache must hold
                one such row.
            speculation: vLLM's ``speculative_config``; ``None`` drafts nothing.
            degenerate: When an answer that repeats itself is given up; ``None`` is never.
            tolerance: How far the engine's log-probabilities may be from the candidate's, on average over a fixed text;
                ``None`` is what rounding in the candidate's dtype explains.

        Raises:
            ConfigError: A number is out of range, or there is no vLLM.
        """
        if batch_size < 1:
            raise ConfigError(f"generator.batch_size must be at least 1, got {batch_size}")
        if not cache_gigabytes > 0:
            raise ConfigError(f"generator.cache_gigabytes must be above 0, got {cache_gigabytes}")
        if window is not None and window < 3:
            raise ConfigError(f"generator.window must be at least 3 or null, got {window}")
        if tolerance is not None and not tolerance > 0:
            raise ConfigError(f"generator.tolerance must be above 0 or null, got {tolerance}")
        self._degenerate = checked(degenerate)
        self.batch_size, self.window = batch_size, window
        self.cache_bytes = int(cache_gigabytes * 1e9)
        self.counters: dict[str, float] = {}
        self._candidate: Candidate | None = None
        settings = {
            "max_num_seqs": batch_size,
            "kv_cache_memory_bytes": self.cache_bytes,
            "gpu_memory_utilization": 0.01,  # with the cache's size given, only how much must be free at the start
            "enable_prefix_caching": True,
            "speculative_config": None if speculation is None else dict(speculation),
        }
        self.serving = Serving(interpreter(python), window, tolerance, settings)

    def load(
        self,
        recipe: Recipe,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        tensors: Callable[[], Iterator[tuple[str, Tensor]]],
    ) -> None:
        """Say whose answers are wanted next; the engine gets its weights when it is asked, unless it has them."""
        self._candidate = Candidate(recipe, model, tokenizer, tensors)

    def release(self) -> None:
        """End the engine and let the candidate go; the next one starts another."""
        self._candidate = None
        self.serving.close()

    def generate(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: PromptBatch) -> Completions:
        """Complete every prompt of a batch; answers end as those of ``HuggingFaceGenerator`` do.

        Raises:
            UnusableCandidateError: A logit that would decide a token is not finite, or two engines failed.
            ConfigError: There is no engine for these models, or it does not compute what they compute.
        """
        ends = end_tokens(model)
        ending = Ending(tokenizer, batch.decoding, frozenset(ends), self._degenerate)
        prompts: list[list[int]] = [
            ids[mask.bool()].tolist() for ids, mask in zip(batch.input_ids.cpu(), batch.attention_mask.cpu(), strict=True)
        ]
        limit = batch.decoding.max_new_tokens
        self._check_window(model, max(map(len, prompts)), limit)
        answers = [Answer(ending) for _ in prompts]
        sampling = {"stop": list(batch.decoding.stop), "stop_token_ids": ends}
        while left := [row for row, answer in enumerate(answers) if not answer.has_ended]:
            at_once = limit if self._degenerate is None else _ROUND
            self._go_on([prompts[row] for row in left], [answers[row] for row in left], limit, at_once, sampling)
        tokens = tuple(tuple(answer.tokens) for answer in answers)
        n_degenerate = sum(answer.is_degenerate for answer in answers)
        return Completions(batch.positions, tokens, tuple(map(ending.text, tokens)), n_degenerate)

    def likelihoods(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: LikelihoodBatch
    ) -> tuple[LogLikelihood, ...]:
        """Score every continuation of a batch; each must fit the window with its context and a token more.

        Raises:
            UnusableCandidateError: One is not finite, or two engines failed.
            ConfigError: As ``generate``.
        """
        rows = [[*each.context, *each.continuation] for each in batch.scored]
        chances, ranks = self.serving.ask(self._asked(), lambda engine: engine.score(rows))
        found = []
        for each, own, placed in zip(batch.scored, chances, ranks, strict=True):
            start = len(each.context) - 1  # of the first token nothing is asked
            total = math.fsum(own[start:])
            if not math.isfinite(total):
                raise UnusableCandidateError(f"the log-likelihood of a continuation is not finite ({total})")
            is_greedy = all(rank == 1 for rank in placed[start:])
            found.append(LogLikelihood(total, is_greedy, len(each.continuation)))
        return tuple(found)

    def _go_on(
        self,
        prompts: Sequence[list[int]],
        answers: Sequence[Answer],
        limit: int,
        at_once: int,
        sampling: Mapping[str, Any],
    ) -> None:
        """Some more tokens of every answer."""
        rows = [[*prompt, *answer.tokens] for prompt, answer in zip(prompts, answers, strict=True)]
        most = [min(at_once, limit - len(answer.tokens)) for answer in answers]
        found = self.serving.ask(self._asked(), lambda engine: engine.answer(rows, most, sampling))
        self.counters = found["counters"]
        for answer, tokens, not_finite in zip(answers, found["tokens"], found["not_finite"], strict=True):
            answer.add(tokens, [number != not_finite for number in range(1, len(tokens) + 1)])
            if not answer.has_ended:
                answer.look()  # vLLM may have seen a stop string

    def _asked(self) -> Candidate:
        if self._candidate is None:
            raise RuntimeError("no candidate is loaded; the evaluator calls load before it asks")
        return self._candidate

    def _check_window(self, model: PreTrainedModel, longest: int, limit: int) -> None:
        """Whether vLLM would cut the answers."""
        room = window_of(model.config, self.window)
        if room is not None and longest + limit > room:
            raise ConfigError(
                f"a window of {room} tokens leaves {max(room - limit, 0)} for a prompt beside {limit} new ones, and one has "
                f"{longest}; raise generator.window or leave it null, or lower task.max_new_tokens"
            )
