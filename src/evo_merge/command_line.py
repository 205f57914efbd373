"""What all commands share: Hydra's composition with its errors turned into one sentence, and exit codes.

0 done, 2 something the user can mend, 130 stopped by Ctrl-C with everything saved, 141 nobody reads what is printed any more.
Anything else is a bug and shows its traceback.
"""

import atexit
import difflib
import gc
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evo_merge.errors import ConfigError, EvoMergeError
from evo_merge.help import asks_for_help, help_of

_PACKAGE = Path(__file__).parent
# In a wheel conf/ lies inside the package, in a checkout beside src/.
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"

_MENDABLE = (EvoMergeError, HydraException, OmegaConfBaseException)
_OBJECTS = 10_000  # made between two looks for garbage among the youngest, in place of 700
# By verb, the option of a file that is named alone.
_WHAT = {"build": "recipe", "from_evolve": "genome", "evaluate": "model", "calibrate": "data"}


def run_hydra(config_name: str, job: Callable[[DictConfig], None]) -> int:
    """Compose a config from the command line, run a job with it, and return the exit code; or answer ``--help``."""
    if asks_for_help(sys.argv[1:]):
        return guarded(lambda: print(help_of(CONF, config_name, sys.argv[1:])))  # noqa: T201
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors reach us instead of being printed
    # The tokenizers' own threads would warn at every fork.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    failures: list[Exception] = []

    def spoken(config: DictConfig) -> None:
        # Hydra would announce what is raised in words of its own; the other jobs of a sweep run all the same.
        try:
            job(config)
        except _MENDABLE as error:
            failures.append(error)
            _say(_sentence(error, config_name))

    def composed() -> None:
        try:
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(spoken)()
        except ValueError as error:
            if sentence := _no_choice(error):
                raise ConfigError(sentence) from error
            raise

    return guarded(composed, config_name) or (2 if failures else 0)


def guarded(command: Callable[[], Any], config_name: str | None = None) -> int:
    """Run a command and turn what the user can mend into one sentence on stderr; returns the exit code."""
    _look_for_garbage_less()
    try:
        command()
        sys.stdout.flush()  # here, where a reader that has gone away is no error
    except BrokenPipeError:
        if not _is_reader_gone():
            raise
        return 141  # what a shell says of a program that wrote for nobody
    except KeyboardInterrupt as error:
        _say(str(error) or "stopped")
        return 130
    except _MENDABLE as error:
        _say(_sentence(error, config_name))
        return 2
    return 0


def _look_for_garbage_less() -> None:
    """Leave the objects that torch and transformers are made of alone, of which none ever is garbage.

    To look among them again and again takes a sixth of the time that importing those takes, and at the end another second.
    """
    gc.set_threshold(_OBJECTS)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


def _is_reader_gone() -> bool:
    """Whether nobody reads the standard output any more, as after ``| head``; other pipes break too, such as W&B's."""
    try:
        print(flush=True)  # noqa: T201  what could not be written before may be lost, so that a flush alone would not fail
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at the end of Python fails again
        return True
    return False


def nearest(word: str, words: Iterable[str]) -> str:
    """``did you mean 'x'?``, or the list of what there is."""
    known = sorted(words)
    if not known:
        return "there are none here"
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"there are {', '.join(known)}" if len(known) != 1 else f"there is only '{known[0]}'"


def _say(sentence: str) -> None:
    print(f"evo-merge: {sentence}", file=sys.stderr)  # noqa: T201  the command line's own voice


def _sentence(error: BaseException, config_name: str | None) -> str:
    ours = next((e for e in _chain(error) if isinstance(e, EvoMergeError)), None)
    if ours is not None:
        return str(ours)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return _unknown_choice(group, name, error.options or ()) if group else f"there is no config '{name}'"
    if isinstance(error, OverrideParseException):
        if "=" not in error.override and config_name in _WHAT:
            meant = shlex.quote(f"{_WHAT[config_name]}={error.override}")
            return f"'{error.override}' has no option's name before it; did you mean {meant}?"
        return f"the option '{error.override}' cannot be read; write key=value, in quotes where it holds spaces or brackets"
    if isinstance(error, ConfigCompositionException):
        named = re.search(r"Could not (?:override|delete from config\.) '([\w./@]+)", str(error))
        if named:
            # Of an override with braces, merge.bounds={wieght: [0, 1]}, the cause knows the key inside.
            key = getattr(error.__cause__, "full_key", None) or named[1]
            return f"there is no option '{key}'; {_elsewhere(key) or _neighbours(key, config_name)}"
    if isinstance(error, InstantiationException):
        while isinstance(error.__cause__, InstantiationException):
            error = error.__cause__  # of what a part of the config builds for itself
        cause = error.__cause__ or error
        where = re.search(r"full_key: (\S+)", str(error))
        part, reason = where[1] if where else "config", _one_line(cause)
        return reason if reason.startswith(f"{part}.") else f"{part}: {reason}"
    if isinstance(error, OmegaConfBaseException):
        return f"{getattr(error, 'full_key', None) or 'config'}: {_one_line(error)}"
    return _one_line(error)


def _unknown_choice(group: str, name: str, known: Iterable[str]) -> str:
    return f"{group}={name}: there is no such choice; {nearest(name, known)}"


def _no_choice(error: ValueError) -> str | None:
    """What Hydra means where a group is set to nothing or to a number, about which it raises a plain ``ValueError``."""
    if "Config group override must be" not in str(error):
        return None
    for group, _, name in (word.lstrip("+").partition("=") for word in sys.argv[1:]):
        known = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
        if group and known and name not in known:
            return _unknown_choice(group, name, known)
    return "an option has no name or no value; write key=value"


def _elsewhere(key: str) -> str:
    """Where an option is that the chosen part has not: in the parts of ``task=several``, or in other choices of the group."""
    typed = (word.lstrip("+~").partition("=")[0] for word in sys.argv[1:])  # Hydra names the first part that is missing
    group, _, name = next((word for word in typed if word == key or word.startswith(f"{key}.")), key).partition(".")
    options = {file.stem: OmegaConf.load(file) for file in sorted((CONF / group).glob("*.yaml"))} if name else {}
    having = [choice for choice, known in options.items() if name.split(".")[0] in known]
    if not having:
        return ""
    parts = [found[1] for word in sys.argv[1:] if (found := re.match(r"\+?task@task\.parts\.(\w+)=", word))]
    if group == "task" and (parts or "task=several" in sys.argv):
        return f"each part of task=several has its own: task.parts.{parts[0] if parts else '<name>'}.{name}"
    chosen = next((word.partition("=")[2] for word in sys.argv[1:] if word.startswith(f"{group}=")), "")
    if chosen not in options or chosen in having:
        return ""
    return f"{group}={chosen} has none; {', '.join(having)} {'has' if len(having) == 1 else 'have'} it"


def _neighbours(key: str, config_name: str | None) -> str:
    """What the user may have meant by an option that does not exist."""
    parent, _, name = key.rpartition(".")
    for overrides in (_other_overrides(key), []):
        try:
            with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
                config = hydra.compose(config_name, overrides=overrides)
            node = OmegaConf.select(config, parent) if parent else config
        except (HydraException, OmegaConfBaseException):
            continue
        if isinstance(node, DictConfig):
            known = [str(child) for child in node if not str(child).startswith("_")]
            answer = nearest(name, known)
            return answer.replace("did you mean '", f"did you mean '{parent}.") if parent else answer
        if parent:
            return _neighbours(parent, config_name)
    return "see --help for what there is"


def _other_overrides(key: str) -> list[str]:
    return [
        word
        for word in sys.argv[1:]
        if "=" in word and not word.startswith(("-", "hydra", "resume=")) and not word.lstrip("+~").startswith(key)
    ]


def _chain(error: BaseException) -> Sequence[BaseException]:
    found: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in found:
        found.append(step)
        step = step.__cause__ or step.__context__
    return found


def _one_line(error: BaseException) -> str:
    text = " ".join(
        line.strip()
        for line in str(error).splitlines()
        if line.strip() and not line.strip().startswith(("full_key", "object_type", "reference_type"))
    )
    return text or type(error).__name__
