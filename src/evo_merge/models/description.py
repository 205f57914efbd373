"""What a model folder says about itself: config, tokenizer, generation settings, licence. No weight is read."""

from functools import cache
from pathlib import Path
from typing import Any

from evo_merge.errors import ModelError
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


def read_licence(folder: Path) -> str | None:
    """The licence that a model card states, or ``None`` where it states none."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    import yaml

    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        fields = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return None  # a card that cannot be read states nothing
    licence = fields.get("license") if isinstance(fields, dict) else None
    return str(licence) if licence else None


def _state(files: ModelFiles) -> tuple[Path, tuple[int, ...]]:
    """Tells a folder from another of the same relative name, and from what it held before."""
    folder = files.folder.absolute()
    return folder, tuple(path.lstat().st_mtime_ns for path in sorted(folder.glob("*")))


@cache  # of a GGUF file it takes seconds, and adapters share their base's
def _config(files: ModelFiles, _: object) -> Any:
    from transformers import AutoConfig

    if files.gguf is None and not (files.folder / "config.json").is_file():
        raise ModelError(f"'{files.folder}' has no config.json, so it is no model folder")
    try:
        return AutoConfig.from_pretrained(files.folder, **_gguf(files), local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        raise ModelError(f"reading '{files.folder / (files.gguf or '')}' needs the package 'gguf': pip install gguf") from error
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"'{files.folder}' has a config that transformers cannot read: {_first_line(error)}") from error


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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"'{files.folder}' has a tokenizer that transformers cannot read: {_first_line(error)}") from error


def _gguf(files: ModelFiles) -> dict[str, str]:
    return {} if files.gguf is None else {"gguf_file": files.gguf}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
