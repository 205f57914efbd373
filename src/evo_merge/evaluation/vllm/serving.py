"""One vLLM engine, started when it is first needed, with the weights of one candidate after another in it, in place.

After every exchange of weights engine and candidate both say how probable the tokens of a fixed text are. Where they do not
agree, the weights did not arrive, or the engine computes something else.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evo_merge.errors import ConfigError, UnusableCandidateError
from evo_merge.evaluation.vllm.check import TOLERANCE, fixed_text, log_probabilities
from evo_merge.evaluation.vllm.engine import Engine, EngineDiedError, EngineRefusedError
from evo_merge.evaluation.vllm.weights import deepened, fits, remove_weights, write_weights
from evo_merge.recipe import Recipe

log = logging.getLogger(__name__)
T = TypeVar("T")
_IN_MEMORY = "/dev/shm"
_ROOM = 2  # candidates' weights; an engine may be deeper than the first candidate


class EngineDisagreesError(RuntimeError):
    """The engine finds a fixed text as probable as the candidate does not."""


@dataclass(frozen=True)
class Candidate:
    """Whose answers are wanted.

    Attributes:
        recipe: The same recipe has the same weights.
        model: In memory, on its device.
        tokenizer: Shared by all candidates.
        tensors: The model's weights as its checkpoint has them.
    """

    recipe: Recipe
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    tensors: Callable[[], Iterator[tuple[str, Tensor]]]

    @property
    def config(self) -> Any:
        """The config of the candidate's own depth."""
        return self.model.config


@dataclass
class _Running:
    """An engine, the config that it was started with, and whose weights are in it."""

    engine: Engine
    config: Any
    dtype: str
    recipe: Recipe | None = None


class Serving:
    """Keeps an engine running, and asks it about candidates.

    Args:
        python: The interpreter that has vLLM.
        window: Tokens of the longest prompt with its answer; ``None`` is what the models can attend to.
        tolerance: The mean difference of log-probabilities that is rounding; ``None`` is what the dtype's ``TOLERANCE`` is.
        settings: Arguments of ``vllm.LLM`` beside the model's own.

    Attributes:
        differences: Of log-probabilities, on average, in each check of exchanged weights so far.
    """

    def __init__(self, python: str, window: int | None, tolerance: float | None, settings: Mapping[str, Any]) -> None:
        self._python, self._window, self._tolerance, self._settings = python, window, tolerance, settings
        self._running: _Running | None = None
        self._has_agreed = False  # with any candidate
        self.differences: list[float] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # that weights pass through

    @property
    def process_id(self) -> int | None:
        """Of the engine; ``None`` where none runs."""
        return None if self._running is None else self._running.engine.process_id

    def ask(self, candidate: Candidate, question: Callable[[Engine], T]) -> T:
        """Ask the engine with the candidate's weights in it; one that dies, or whose weights are wrong, is started again, once.

        Raises:
            UnusableCandidateError: The second engine does no better, or the candidate's logits are not finite.
            ConfigError: There is no engine for the model, it refuses the question, or it never agreed with any candidate.
        """
        try:
            return self._ask(candidate, question)
        except (EngineDiedError, EngineDisagreesError) as error:
            self.close()
            if isinstance(error, EngineDisagreesError) and not self._has_agreed:
                raise ConfigError(f"{error}; choose generator=hf for these models, or raise generator.tolerance") from error
            log.warning("starting another vLLM engine, since %s", error)
        try:
            return self._ask(candidate, question)
        except (EngineDiedError, EngineDisagreesError) as error:
            self.close()
            raise UnusableCandidateError(f"vLLM failed twice over this candidate: {error}") from error

    def _ask(self, candidate: Candidate, question: Callable[[Engine], T]) -> T:
        try:
            return question(self._with_weights(candidate))
        except EngineRefusedError as error:
            raise ConfigError(f"vLLM refuses the prompts: {error}; see generator.window, or choose generator=hf") from error

    def close(self) -> None:
        """End the engine; the next question starts another."""
        if self._running is not None:
            self._running.engine.close()
            self._running = None

    def _with_weights(self, candidate: Candidate) -> Engine:
        """The engine, with the candidate's weights in it."""
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
            self.close()
            running = None
        folder = self._passage(candidate)
        room = candidate.config.num_hidden_layers if running is None else running.config.num_hidden_layers
        try:
            write_weights(deepened(candidate.tensors(), candidate.config.num_hidden_layers, room), folder)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"the candidate's weights cannot be written to '{folder}': {error}; make room there") from error
        if running is None:
            running = self._running = _Running(self._start(candidate, folder), candidate.config, dtype)
        else:
            running.recipe = None
            running.engine.load(folder)
        remove_weights(folder)
        self._check(candidate, running.engine, ids, expected)
        running.recipe = candidate.recipe
        return running.engine

    def _passage(self, candidate: Candidate) -> Path:
        """The folder that weights pass through: in memory where there is room for them, else where temporary files are."""
        if self._folder is None:
            needed = _ROOM * sum(weight.nbytes for weight in candidate.model.parameters())
            is_roomy = os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free > needed
            self._folder = tempfile.TemporaryDirectory(prefix="evo_merge_vllm_", dir=_IN_MEMORY if is_roomy else None)
        return Path(self._folder.name)

    def _start(self, candidate: Candidate, folder: Path) -> Engine:
        config = type(candidate.config).from_dict(candidate.config.to_dict())
        config.architectures, config.dtype = [type(candidate.model).__name__], candidate.recipe.out_dtype
        config.save_pretrained(folder)
        candidate.tokenizer.save_pretrained(folder)
        settings = {
            "model": str(folder),
            "dtype": candidate.recipe.out_dtype,
            "max_model_len": self._window,
            "enforce_eager": True,  # what is compiled may hold the weights of the candidate that it was compiled with
            "generation_config": "vllm",  # nothing but what we ask for
            "disable_log_stats": False,  # the counters
            "use_tqdm_on_load": False,
            **self._settings,
        }
        engine = Engine(self._python, settings, folder / "log.txt")
        log.info("vLLM %s runs in process %d", engine.version, engine.process_id)
        return engine

    def _check(self, candidate: Candidate, engine: Engine, ids: Sequence[int], expected: Tensor) -> None:
        """Whether engine and model agree on how probable the tokens of a fixed text are."""
        found = torch.tensor(engine.score([ids])[0][0], dtype=torch.float64)
        difference = float((found - expected).abs().mean())
        self.differences.append(difference)
        tolerance = TOLERANCE[candidate.recipe.out_dtype] if self._tolerance is None else self._tolerance
        log.info("weights in the engine: log-probabilities differ by %.2g on average (at most %g)", difference, tolerance)
        if not difference <= tolerance:
            raise EngineDisagreesError(
                f"the vLLM engine does not compute what the candidate computes: log-probabilities of {len(ids)} tokens "
                f"differ by {difference:.3g} on average, and rounding in {candidate.recipe.out_dtype} explains {tolerance:g}"
            )
        self._has_agreed = True
