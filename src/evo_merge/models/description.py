"""What a model folder says about itself: config, tokenizer, generation settings, licence. No weight is read."""

from functools import cache
from pathlib import Path
from typing import Any

from evo_merge.errors import ModelError
from evo_merge.licences import StatedLicence, stated_in_card
from evo_merge.models.reference import ModelFiles


def read_config(files: ModelFiles) -> Any:
    """The transformers config; raises ``ModelError``. Remote code is never run."""
    return _config(files, _state(files))


def read_tokenizer(files: ModelFiles) -> Any | None:
    """The tokenizer, or ``None`` where the folder has none."""
    return _tokenizer(files, _state(files))


def read_generation_config(files: ModelFiles) -> Any | None:
    """The generation config, or ``None`` where the folder has none."""
    from transformers import GenerationConfig

    if files.gguf is not None or not (files.folder / "generation_config.json").is_file():
        return None
    try:
        return GenerationConfig.from_pretrained(files.folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"'{files.folder}' has a generation config that cannot be read: {_first_line(error)}") from error


def read_licences(files: ModelFiles) -> tuple[StatedLicence, ...]:
    """The licences that a model without an adapter states: in its card, or in a GGUF file without one."""
    fields = _card(files.folder) or _gguf_fields(files, _state(files))
    notices = sorted(path for path in files.folder.glob("[Ll][Ii][Cc][Ee][Nn][CcSs][Ee]*") if path.is_file())
    return stated_in_card(fields, str(notices[0]) if notices else None)


def _card(folder: Path) -> dict[str, Any]:
    """The metadata of a folder's model card; empty where there is none, or none that can be read."""
    card = folder / "README.md"
    if not card.is_file():
        return {}
    import yaml

    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        fields = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return {}
    return fields if isinstance(fields, dict) else {}


@cache  # reading the header takes seconds, for it holds the vocabulary
def _gguf_fields(files: ModelFiles, _: object) -> dict[str, Any]:
    """``general.license`` of a GGUF file, as a card would state it."""
    if files.gguf is None:
        return {}
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ModelError(f"reading '{files.folder / files.gguf}' needs the package 'gguf': pip install gguf") from error
    try:
        fields = GGUFReader(files.folder / files.gguf).fields
    except (OSError, ValueError, IndexError, KeyError):
        return {}  # what reads its weights says why
    return {"license": fields["general.license"].contents()} if "general.license" in fields else {}


def _state(files: ModelFiles) -> tuple[Path, tuple[int, ...]]:
    """Tells a folder from another of the same relative name, and from what it held before."""
    folder = files.folder.absolute()
    return folder, tuple(path.lstat().st_mtime_ns for path in sorted(folder.glob("*")))


@cache  # of a GGUF file it takes seconds, and adapters share their base's
def _config(files: ModelFiles, _: object) -> Any:
    from transformers import AutoConfig

    if files.gguf is None and not (files.folder / "config.json").is_file():
        raise ModelError(
            f"'{files.folder}' has no config.json, so it is no model folder",
            "name a folder that save_pretrained wrote",
            finding="no_config",
        )
    try:
        return AutoConfig.from_pretrained(files.folder, **_gguf(files), local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        raise ModelError(f"reading '{files.folder / (files.gguf or '')}' needs the package 'gguf': pip install gguf") from error
    except Exception as error:  # each config class checks its settings in its own way
        raise ModelError(
            f"'{files.folder}' has a config that transformers cannot read: {_first_line(error)}", finding="unreadable_config"
        ) from error


@cache
def _tokenizer(files: ModelFiles, _: object) -> Any | None:
    from transformers import AutoTokenizer

    has_one = files.gguf is not None or any(
        (files.folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
    )
    if not has_one:
        return None
    try:
        return AutoTokenizer.from_pretrained(files.folder, **_gguf(files), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises plain ones
        raise ModelError(
            f"'{files.folder}' has a tokenizer that transformers cannot read: {_first_line(error)}",
            finding="unreadable_tokenizer",
        ) from error


def _gguf(files: ModelFiles) -> dict[str, str]:
    return {} if files.gguf is None else {"gguf_file": files.gguf}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
