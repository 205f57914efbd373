"""The model card: metadata that the hub's own classes read back, and only true hub ids in it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from evo_merge.licences import StatedLicence
from evo_merge.recipe import ModelReference, Recipe, Source, to_record, without_scales
from evo_merge.report.model_card import hub_ids, model_card
from evo_merge.report.results import read_results
from evo_merge.report.summary import summarise
from evo_merge.study import Study, opened


@pytest.fixture
def finished(make_run: Callable[..., Path]) -> tuple[dict[str, Any], Recipe]:
    with opened(Study.read(make_run())) as study:
        results = read_results(study)
    assert results.best is not None
    return summarise(results), results.best.recipe


def on_the_hub(recipe: Recipe) -> Recipe:
    references = (
        ModelReference("org/math"),
        ModelReference("./ja"),
        ModelReference(adapter="./lora", base=ModelReference("org/base")),
    )
    sources = tuple(Source(s.name, r) for s, r in zip(recipe.sources, references, strict=True))
    return replace(recipe, base=ModelReference("org/base", revision="main"), sources=sources)


def test_the_metadata_survives_the_hubs_own_classes(finished: tuple[dict[str, Any], Recipe]) -> None:
    summary, recipe = finished
    text = model_card(
        summary,
        on_the_hub(recipe),
        name="tiny",
        licences=dict.fromkeys(("ja", "math_a"), (StatedLicence("apache-2.0"),)),
        languages=("ja",),
    )
    data = ModelCard(text).data
    assert isinstance(data, ModelCardData)
    assert data.base_model == ["org/base", "org/math"]
    assert data.to_dict()["base_model_relation"] == "merge"
    assert data.tags == ["merge", "evo-merge"]
    assert (data.library_name, data.license, data.language) == ("transformers", "apache-2.0", ["ja"])
    assert data.eval_results is not None
    assert data.eval_results[0].metric_value == round(summary["test"]["best"]["score"], 4)
    again = ModelCard(f"---\n{data.to_yaml()}\n---\n").data
    assert again.to_dict() == data.to_dict()


def test_the_card_holds_the_recipe_and_every_score(finished: tuple[dict[str, Any], Recipe]) -> None:
    summary, recipe = finished
    text = model_card(summary, recipe, name="tiny", licences={"ja": ()})
    fenced = text.split("```yaml\n")[1].split("\n```")[0]
    assert yaml.safe_load(fenced) == to_record(recipe)
    for name in ("**evolved merge**", "ja", "math_a", "math_b", "dare_ties at 0.5", "linear", "ties"):
        assert f"| {name} |" in text


def test_only_hub_ids_are_base_models(finished: tuple[dict[str, Any], Recipe], tmp_path: Path, monkeypatch: Any) -> None:
    _, recipe = finished
    assert hub_ids(recipe) == []  # builtin: names
    assert "base_model" not in model_card(finished[0], recipe, name="tiny", licences={}).split("---")[1]
    (tmp_path / "org" / "math").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub_ids(on_the_hub(recipe)) == ["org/base"]  # org/math is a folder here


@pytest.mark.parametrize(
    ("licences", "metadata", "sentences"),
    [
        (["mit", "mit"], ("mit", None), ["**Permissive.** All models state `mit`, so the merge may be under it too."]),
        (["mit", "apache-2.0"], ("apache-2.0", None), ["`a` states `mit` and `b` states `apache-2.0`, all permissive"]),
        (
            ["apache-2.0", "msrla"],
            ("other", "msrla"),
            ["**Research-only.** `b` states `msrla`", "The models state: a: apache-2.0, b: msrla."],
        ),
        (["gpl-3.0", "llama2"], ("other", "not-to-be-shared"), ["**Conflict.**", "the merge must not be shared"]),
        (["mit", "unknown"], ("unknown", None), ["**Unknown.** `b` states no licence", "find out before you use or share it"]),
        ([], ("unknown", None), ["**Unknown.** No model is named"]),
    ],
)
def test_the_licence_is_what_the_models_state_combined(
    finished: tuple[dict[str, Any], Recipe], licences: list[str], metadata: tuple[str, str | None], sentences: list[str]
) -> None:
    stated = {name: (StatedLicence(licence),) for name, licence in zip("ab"[: len(licences)], licences, strict=True)}
    text = model_card(*finished, name="tiny", licences=stated)
    data = ModelCard(text).data
    assert (data.license, data.license_name) == metadata
    said = text.split("## Licence\n\n")[1]
    assert all(sentence in said for sentence in [*sentences, "it is no legal advice."])


def test_a_merge_without_test_scores_says_so(finished: tuple[dict[str, Any], Recipe]) -> None:
    summary = {key: value for key, value in finished[0].items() if key != "test"}
    text = model_card(summary, finished[1], name="tiny", licences={})
    assert "has not been scored on test problems" in text
    assert ModelCard(text).data.eval_results is None


def test_the_card_asks_as_the_task_does(finished):
    text = model_card(*finished, name="tiny", licences={}, prompt="Q: {x}\nA: ")
    assert "prompt = 'Q: {x}\\nA: '" in text
    assert "model.generate(**inputs" in text

    chat = model_card(*finished, name="tiny", licences={}, prompt=[{"role": "user", "content": "hello"}])
    assert "messages = [{'role': 'user', 'content': 'hello'}]" in chat
    assert "apply_chat_template" in chat


def test_a_path_is_introduced_as_an_ordinary_checkpoint(make_path_run: Callable[[str], Path]) -> None:
    with opened(Study.read(make_path_run("dfs"))) as study:
        results = read_results(study)
    assert results.best is not None
    text = model_card(summarise(results), results.best.recipe, name="tiny", licences={})
    assert "Tokens pass through 6 layers in this order: layers 0 to 1 of math_a (inputs times 1 and 1.5), then" in text
    assert "The scales are folded into the weights, so it is an ordinary checkpoint with 6 layers." in text
    assert "Tokenizer, embeddings, final norm and head are those of `math_a`." in text
    assert "| evolved, all scales 1 | evolved merge, scales removed |" in text
    unscaled = model_card(summarise(results), without_scales(results.best.recipe), name="tiny", licences={})
    assert "It is an ordinary checkpoint with 6 layers." in unscaled
    assert "folded" not in unscaled


def test_a_hybrid_names_what_its_models_were_merged_from(make_path_run: Callable[[str], Path]) -> None:
    with opened(Study.read(make_path_run("hybrid"))) as study:
        results = read_results(study)
    assert results.best is not None
    recipe = results.best.recipe
    text = model_card(summarise(results), recipe, name="tiny", licences={})
    inner = "`builtin:tiny_ja_math/ja`, `builtin:tiny_ja_math/math_a` and `builtin:tiny_ja_math/math_b`"
    assert f"- `ps`: a merge of {inner} on the base `builtin:tiny_ja_math/base` by `dare_ties`" in text
    assert "| ps, parameter space alone | best of an earlier stage |" in text
    merged = on_the_hub(recipe.models[0].reference.recipe)
    on_hub = replace(recipe, models=(Source("ps", ModelReference(recipe=merged)), Source("ja", ModelReference("org/ja"))))
    assert hub_ids(on_hub) == ["org/base", "org/math", "org/ja"]
    assert ModelCard(model_card(summarise(results), on_hub, name="tiny", licences={})).data.base_model == hub_ids(on_hub)
