"""A vLLM engine in a process of its own, and what is said to it."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from evo_merge.errors import ConfigError
from evo_merge.evaluation.vllm import server

_ENVIRONMENT = {
    "PYTHONSAFEPATH": "1",  # else the folder of the server is searched first, where modules have names like those of others
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in the process that is started, so that its end is the engine's
    "VLLM_NO_USAGE_STATS": "1",  # it reports to nobody
}
_DEFAULTS = {"VLLM_LOGGING_LEVEL": "WARNING", "TOKENIZERS_PARALLELISM": "false"}


class EngineDiedError(RuntimeError):
    """The engine's process has ended."""


class EngineRefusedError(RuntimeError):
    """The engine does not take a request, such as a prompt that is too long, and goes on."""


class EngineFailedError(RuntimeError):
    """The engine answered with an error that nobody expects."""


class Engine:
    """Starts vLLM and waits until it is ready.

    Args:
        python: The interpreter that has vLLM.
        settings: Arguments of ``vllm.LLM``.
        log: Where its process writes what it has to say.

    Attributes:
        process_id: Of the engine.

    Raises:
        ConfigError: vLLM is not there, or would not start.
    """

    def __init__(self, python: str, settings: Mapping[str, Any], log: Path) -> None:
        environment = _DEFAULTS | dict(os.environ) | _ENVIRONMENT
        if python != sys.executable:
            environment.pop("PYTHONPATH", None)  # packages for this interpreter
        if "OMP_NUM_THREADS" in environment:  # else vLLM binds a thread to every core
            environment.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
            # Drafting by look-up runs in numba, which otherwise sets the threads of everything to all cores.
            environment.setdefault("NUMBA_NUM_THREADS", environment["OMP_NUM_THREADS"])
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [python, str(server.__file__), json.dumps(dict(settings))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the run, which lets the candidate finish
            )
        self.process_id = self._process.pid
        try:
            self.version = str(self._reply()["version"])
        except EngineDiedError as error:
            raise ConfigError(f"vLLM did not start: {error}; choose generator=hf, or see docs/vllm.md") from error
        except EngineFailedError as error:
            self.close()
            raise ConfigError(f"vLLM cannot run these models: {error}; choose generator=hf, or see docs/vllm.md") from error

    def load(self, folder: Path) -> None:
        """Replace the weights by those in a folder; cached prefixes are forgotten."""
        self._ask(do="load", folder=str(folder))

    def answer(
        self, prompts: Sequence[Sequence[int]], max_tokens: Sequence[int], sampling: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Greedy completions of so many tokens at most: ``tokens``, ``not_finite``, ``counters`` (see ``server``)."""
        return self._ask(do="answer", prompts=list(map(list, prompts)), max_tokens=list(max_tokens), sampling=dict(sampling))

    def score(self, prompts: Sequence[Sequence[int]]) -> tuple[list[list[float]], list[list[int]]]:
        """Log-probabilities of every prompt's tokens but the first, and their ranks, 1 for the likeliest."""
        found = self._ask(do="score", prompts=list(map(list, prompts)))
        return found["logprobs"], found["ranks"]

    def close(self) -> None:
        """End the process, and those that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # it leads a session of its own
        self._process.communicate()

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise EngineDiedError(self._last_words()) from error
        try:
            return self._reply()
        except EngineFailedError as error:  # what an engine is like after an exception, nobody knows
            self.close()
            raise EngineDiedError(str(error)) from error

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EngineDiedError(self._last_words())
        reply: dict[str, Any] = json.loads(line)
        if "refused" in reply:
            raise EngineRefusedError(reply["refused"])
        if "error" in reply:
            raise EngineFailedError(reply["error"])
        return reply

    def _last_words(self) -> str:
        code = self._process.wait()
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n") if self._log.exists() else []
        said = [line.strip() for line in lines if "Error" in line]
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"its process ended with {ended}" + (f" ({said[-1]})" if said else "")


def interpreter(python: str | None) -> str:
    """The Python that has vLLM: the given one, or this one; raises ``ConfigError`` where it has none."""
    if python is None:
        if importlib.util.find_spec("vllm") is None:
            raise ConfigError(
                "generator=vllm needs vLLM, which is not installed here: pip install 'evo-merge[vllm]', or name the Python of "
                "an environment that has it: generator.python=.venv-vllm/bin/python ('make vllm' creates one for a CPU)"
            )
        return sys.executable
    path = Path(python).expanduser().absolute()  # a link is what makes an environment, so it is not resolved
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        found = subprocess.run([str(path), "-I", "-c", code], check=False, capture_output=True).returncode == 0
    except OSError as error:
        raise ConfigError(f"generator.python: '{path}' cannot be run: {error.strerror}") from error
    if not found:
        raise ConfigError(f"generator.python: '{path}' has no vLLM; install it there, or name another environment's Python")
    return str(path)
