"""From the command that gathers statistics to merges that use them, and everything that can be wrong in between."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evo_merge.calibration.record import read_record
from evo_merge.errors import RecipeError
from evo_merge.fingerprints import digest_of_file
from evo_merge.methods.fisher import Fisher
from evo_merge.methods.regmean import Regmean
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.merging import TensorMerger, check_mixture
from evo_merge.models.pool import Pool
from evo_merge.models.tiny.__main__ import SHIPPED
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe, to_yaml
from evo_merge.recipe_file import load
from evo_merge.tokenizer_rule import UNION, TokenizerRule

TINY = "builtin:tiny_ja_math"
CPU = torch.device("cpu")


@pytest.fixture
def gathered(command: Any, tmp_path: Path) -> Any:
    """Runs the command over two sources: ``gathered("gram")`` gives the folder."""
    texts = ["Q: りんごが2個あります。", "はじめに2個です。6増えるので、2+6=8です。", "At first there are 2. The answer is 4."]
    rows = [json.dumps({"text": text}) + "\n" for text in texts]
    (tmp_path / "texts.jsonl").write_text("".join(rows), encoding="utf-8")

    def gather(kind: str, out: str = "statistics", *words: str) -> Path:
        ended = command(f"kind={kind}", "data=texts.jsonl", "models.use=[ja,math_a]", f"out={out}", *words, verb="calibrate")
        assert ended.code == 0, ended.err
        return tmp_path / out

    return gather


def recipe(method: str, **options: Any) -> ParameterSpaceRecipe:
    pool = Pool(base=None, sources=[f"{TINY}/ja", f"{TINY}/math_a"])
    rules = (ParameterRule(("*",), {"weight": (0.5, 0.5)}),)
    return ParameterSpaceRecipe(None, pool.recipe_sources, method, options, rules, 0, "float32", "float32")


@pytest.mark.parametrize(("kind", "method"), [("fisher", "fisher"), ("gram", "regmean")])
def test_what_is_gathered_merges_in_memory_and_on_disk_to_the_same_model(
    gathered: Any, tmp_path: Path, kind: str, method: str
) -> None:
    folder = gathered(kind)
    wanted = recipe(method, statistics=str(folder))
    pool = Pool.of_recipe(wanted)
    merged = TensorMerger(pool, CPU).of(wanted)
    write_checkpoint(wanted, pool, tmp_path / "built")
    built = load_file(tmp_path / "built" / "model.safetensors")
    average = TensorMerger(pool, CPU).of(recipe("linear"))
    differing = [name for name in built if not torch.equal(merged[name], average[name])]
    assert all(torch.equal(merged[name], built[name]) for name in built)
    linear = {name for name in built if name.endswith("proj.weight") or name == "lm_head.weight"}
    assert set(differing) == (linear if kind == "gram" else set(built))


def test_the_formula_is_followed_from_the_files_on(gathered: Any) -> None:
    folder = gathered("fisher")
    wanted = recipe("fisher", statistics=str(folder))
    pool = Pool.of_recipe(wanted)
    name = "model.layers.1.mlp.up_proj.weight"
    files = [next(iter(entry.files)) for entry in read_record(folder).sources.values()]
    information = torch.stack([load_file(folder / file)[name] for file in files]).clamp(min=1e-6)
    sources = torch.stack([model.read(name).float() for model in pool.sources])
    expected = (information * sources).sum(dim=0) / information.sum(dim=0)
    torch.testing.assert_close(TensorMerger(pool, CPU).of(wanted)[name], expected.to(torch.float32), rtol=1e-5, atol=1e-6)
    whole = [torch.cat([t.flatten() for t in load_file(folder / file).values()]) for file in files]
    assert [float(each.mean()) for each in whole] == pytest.approx([1.0, 1.0], rel=1e-4)


def test_the_same_command_gathers_the_same_statistics(gathered: Any) -> None:
    first, again, other = gathered("fisher", "a"), gathered("fisher", "b"), gathered("fisher", "c", "seed=2")
    assert (first / "statistics.json").read_bytes() == (again / "statistics.json").read_bytes()
    assert (first / "statistics.json").read_bytes() != (other / "statistics.json").read_bytes()


def test_a_task_gives_its_problems_with_each_sources_own_answers(command: Any) -> None:
    words = ["kind=gram", "task=tiny_ja_math", "limit=4", "models.use=[ja,math_a]", "out=own"]
    assert command(*words, verb="calibrate").code == 0
    record = read_record(Path("own"))
    assert record.settings["task"] == "tiny_ja_math"
    assert [entry.texts for entry in record.sources.values()] == [4, 4]
    files = [Path("own") / next(iter(entry.files)) for entry in record.sources.values()]
    head = [load_file(file)["model.layers.0.self_attn.q_proj.weight"] for file in files]
    assert not torch.equal(head[0], head[1])


def test_a_task_is_also_answered_with_the_tokens_of_a_merge(command: Any) -> None:
    words = ["kind=fisher", "task=tiny_ja_math", "limit=2", "models.use=[ja,math_a]", "models.tokenizer=base", "out=own"]
    ended = command(*words, verb="calibrate")
    assert ended.code == 0, ended.err
    assert [entry.texts for entry in read_record(Path("own")).sources.values()] == [2, 2]


def test_a_source_that_cannot_answer_is_named(command: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(SHIPPED / "ja", tmp_path / "loud")
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = torch.full_like(tensors["lm_head.weight"], 3e38)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    words = ["kind=gram", "task=tiny_ja_math", "limit=2", "models.base=null", f"models.sources=[{folder}]", "out=own"]
    ended = command(*words, verb="calibrate")
    assert ended.code == 2
    assert "'loud' cannot answer the task's problems: " in ended.err
    assert ended.err.count("\n") == 1


def test_texts_of_one_token_have_no_fisher_information(command: Any) -> None:
    Path("short.jsonl").write_text('{"text": "Q: "}\n', encoding="utf-8")
    words = ["kind=fisher", "data=short.jsonl", "max_tokens=1", "models.use=[ja]", "out=own"]
    ended = command(*words, verb="calibrate")
    assert ended.code == 2
    assert "no text has two tokens or more" in ended.err
    assert not Path("own").exists()


def test_the_command_that_it_ends_with_is_one_whatever_the_folder_is_called(command: Any) -> None:
    Path("texts.jsonl").write_text('{"text": "Q: "}\n', encoding="utf-8")
    ended = command("kind=gram", "data=texts.jsonl", "models.use=[ja]", "out=my statistics", verb="calibrate")
    last = shlex.split(ended.out.splitlines()[-1])
    assert last[:5] == ["python", "-m", "evo_merge", "merge=regmean", "merge.method.statistics=my statistics"]


def test_a_search_writes_recipes_that_name_the_statistics_by_digest(gathered: Any, command: Any, tmp_path: Path) -> None:
    folder = gathered("gram")
    words = ["merge=regmean", f"merge.method.statistics={folder}", "models.use=[ja,math_a]", "tracker=none"]
    words += ["task.limit={search: 4, validation: 4, test: 4}", "budget.evaluations=4", f"hydra.run.dir={tmp_path / 'run'}"]
    ended = command(*words)
    assert ended.code == 0, ended.err
    found = load(tmp_path / "run" / "recipe.yaml")
    assert isinstance(found, ParameterSpaceRecipe)
    assert found.options["statistics"] == str(folder)
    assert len(found.options["digest"]) == 64
    assert command(f"recipe={tmp_path / 'run' / 'recipe.yaml'}", "out=again", verb="build").code == 0
    weights = "model.safetensors"
    assert Path("again", weights).read_bytes() == (tmp_path / "run" / "model" / weights).read_bytes()

    shutil.rmtree(folder)
    gathered("gram", folder.name, "limit=2")
    ended = command(f"recipe={tmp_path / 'run' / 'recipe.yaml'}", "out=third", verb="build")
    assert ended.code == 2
    assert "are not those that the recipe was made with" in ended.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["out=a", "data=f.jsonl"], "kind is not set; it is one of fisher and gram"),
        (["kind=gram", "data=f.jsonl"], "out is not set; it is the folder to write"),
        (["kind=hessian", "out=a", "data=f.jsonl"], "kind must be one of fisher, gram, got 'hessian'"),
        (["kind=gram", "out=a"], "name either data=FILE.jsonl, or task=TASK"),
        (["kind=gram", "out=a", "data=f.jsonl", "task=tiny_ja_math"], "name either data=FILE.jsonl, or task=TASK"),
        (["kind=gram", "out=a", "data=f.jsonl"], "data: there is no file 'f.jsonl'"),
        (
            ["kind=gram", "out=a", "data={ja: f.jsonl}"],
            "data names no file for 'math_a'; name one for each of ja, math_a, math_b",
        ),
        (["kind=gram", "out=a", "data=[f.jsonl]"], "data must be one file, or a mapping with one for each source"),
        (["kind=gram", "out=a", "data=f.jsonl", "limit=0"], "limit must be a whole number of at least 1, got 0"),
        (["kind=gram", "out=a", "data=f.jsonl", "memory=0"], "memory must be a number of GB above 0, got 0"),
        (["kind=fisher", "out=a", "data=f.jsonl", "labels=none"], "labels must be one of sampled, text, got 'none'"),
        (["kind=gram", "out=.", "data=f.jsonl"], "'.' exists and is not empty; choose another folder"),
    ],
)
def test_what_the_command_cannot_do_it_says_in_a_sentence(command: Any, words: list[str], sentence: str) -> None:
    Path("something").touch()
    ended = command(*words, verb="calibrate")
    assert ended.code == 2
    assert sentence in ended.err
    assert "Traceback" not in ended.err
    assert not Path("a").exists()


# --- statistics that do not fit --------------------------------------------------------------------------------------


def refused(wanted: ParameterSpaceRecipe, tensor: str = "model.layers.0.mlp.up_proj.weight") -> str:
    with pytest.raises(RecipeError) as error:
        TensorMerger(Pool.of_recipe(wanted), CPU).of(wanted)[tensor]
    return str(error.value)


def test_a_recipe_without_statistics_says_how_to_gather_them() -> None:
    with pytest.raises(RecipeError, match="'regmean' needs statistics of each source; gather them with  python -m evo_merge"):
        check_mixture(recipe("regmean"))
    assert Regmean().statistics is Fisher().statistics is None


def test_statistics_of_another_kind_of_other_sources_or_of_other_weights_are_refused(gathered: Any, tmp_path: Path) -> None:
    folder = gathered("gram")
    assert "are of kind 'gram'; this method takes 'fisher'" in refused(recipe("fisher", statistics=str(folder)))
    assert "there are no statistics in" in refused(recipe("regmean", statistics=str(tmp_path / "nowhere")))
    named = recipe("regmean", statistics=str(folder))
    text = to_yaml(named).replace("name: ja", "name: jp")
    (tmp_path / "renamed.yaml").write_text(text)
    renamed = load(tmp_path / "renamed.yaml")
    assert isinstance(renamed, ParameterSpaceRecipe)
    assert "are of ja, math_a, and not of 'jp'; gather them for all sources, under the same names" in refused(renamed)
    (tmp_path / "other.yaml").write_text(to_yaml(named).replace("tiny_ja_math/math_a", "tiny_ja_math/math_b"))
    other = load(tmp_path / "other.yaml")
    assert isinstance(other, ParameterSpaceRecipe)
    assert f"were gathered on '{TINY}/math_a', whose weights or rows are not those of '{TINY}/math_b'" in refused(other)


def changed(folder: Path, change: Any) -> ParameterSpaceRecipe:
    """Statistics with another content for the first source, and a record that knows it."""
    record = json.loads((folder / "statistics.json").read_text())
    (file,) = record["sources"]["ja"]["files"]
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file)
    record["sources"]["ja"]["files"][file] = digest_of_file(folder / file)
    (folder / "statistics.json").write_text(json.dumps(record))
    return recipe(record["kind"].replace("gram", "regmean"), statistics=str(folder))


def test_statistics_of_another_shape_or_that_lack_a_tensor_are_refused(gathered: Any) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    wrong = changed(gathered("gram", "a"), lambda tensors: tensors.update({name: torch.eye(3)}))
    assert f"of 'ja' have shape (3, 3) for '{name}', which must be (64, 64); gather them again" in refused(wrong)
    lacking = changed(gathered("gram", "b"), lambda tensors: tensors.pop(name))
    assert f"lack '{name}' of 'ja'; gather them again for all sources at once" in refused(lacking)
    lacking = changed(gathered("fisher", "c"), lambda tensors: tensors.pop(name))
    assert f"lack '{name}' of 'ja'" in refused(lacking)


def test_files_that_changed_behind_the_record_are_refused(gathered: Any) -> None:
    folder = gathered("gram")
    wanted = recipe("regmean", statistics=str(folder))
    file = sorted(folder.glob("*.safetensors"))[0]
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert "is missing or not the file that was written; gather the statistics again" in refused(wanted)
    (folder / "statistics.json").write_text("{")
    assert "cannot be read as a record of statistics; gather them again" in refused(wanted)


def test_statistics_in_the_order_of_other_rows_are_refused(gathered: Any) -> None:
    plain, rows = gathered("fisher", "plain"), gathered("fisher", "rows", "models.tokenizer=union")
    wanted = recipe("fisher", statistics=str(rows))
    assert "whose weights or rows are not those of" in refused(wanted)
    aligned = replace(wanted, tokenizer=TokenizerRule(UNION))
    assert TensorMerger(Pool.of_recipe(aligned), CPU).of(aligned)["model.norm.weight"].isfinite().all()
    assert "whose weights or rows are not those of" in refused(replace(aligned, options={"statistics": str(plain)}))
