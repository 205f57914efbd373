"""Genomes of mergekit-evolve as experiments: they compose, mean the same merges, and say what differs."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from transformers import LlamaConfig, LlamaForCausalLM

from evo_merge.__main__ import PARTS
from evo_merge.command_line import CONF
from evo_merge.config import check, run_settings
from evo_merge.errors import RecipeError
from evo_merge.interchange.from_evolve import Experiment, from_evolve
from evo_merge.interchange.from_mergekit import from_mergekit
from evo_merge.interchange.mergekit_stacks import Shape
from evo_merge.recipe import ModelReference, ParameterSpaceRecipe, Source, rule_of
from evo_merge.spaces.base import Ingredients

N_LAYERS = 8
with torch.device("meta"):
    SMALL = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    NAMES = list(LlamaForCausalLM(LlamaConfig(**SMALL, num_hidden_layers=N_LAYERS)).state_dict())
# The example of mergekit's docs/evolve.md with its placeholders filled in.
DOCUMENTED = """
    genome:
        models:
           - org/model_1
           - org/model_2
           - org/model_3
        merge_method: dare_ties
        base_model: org/base
        tokenizer_source: null # optional
        layer_granularity: 8

        # optional:
        normalize: false
        allow_negative_weights: false
        smooth: false
        filters:
          - self_attn
          - mlp
    tasks:
      - name: lm_eval_task_name
        weight: 1.0 # optional
        metric: "acc,none" # defaults to acc,none
      - name: another_task
    """


def translated(text: str, **options: Any) -> Experiment:
    return from_evolve(textwrap.dedent(text), "'genome.yml'", "genome", **options)


def composed(experiment: Experiment, folder: Path, *words: str) -> Any:
    """The run's config as ``--config-dir`` makes it, checked."""
    (folder / "experiment").mkdir()
    (folder / "experiment" / "genome.yaml").write_text(experiment.text)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[f"hydra.searchpath=[file://{folder}]", "experiment=genome", *words])
    check(config, PARTS)
    run_settings(config)
    return config


def space_of(config: Any) -> Any:
    models = OmegaConf.to_container(config.models)
    assert isinstance(models, dict)
    sources = tuple(Source(each["name"], ModelReference(each["model"])) for each in models["sources"])
    base = None if models["base"] is None else ModelReference(models["base"])
    settings = {key: value for key, value in OmegaConf.to_container(config.merge).items() if key != "_target_"}
    settings["method"] = instantiate(config.merge.method)
    return get_class(config.merge._target_)(Ingredients(base, sources, NAMES, "bfloat16"), 0, **settings)


def test_the_documented_example_composes(tmp_path: Path) -> None:
    config = composed(translated(DOCUMENTED), tmp_path)
    assert config.merge.granularity == {"layers": 8, "filters": ["self_attn", "mlp"]}
    assert (config.merge.method.rescale, config.merge.method.normalize) == ("norm", False)
    assert (config.optimizer._target_.rpartition(".")[2], config.budget.evaluations) == ("CMAES", 100)
    assert (config.models.base, config.models.out_dtype) == ("org/base", "bfloat16")
    assert (config.task.names, config.task.metric) == (["lm_eval_task_name", "another_task"], "acc,none")
    assert config.task.limit.search is None
    assert config.scalarize.weights == [1.0, 1.0]


def by_groups(models: Sequence[str], method: str, normalize: str, values: Any, filters: Sequence[str]) -> str:
    """mergekit-evolve's YAML of its genes: values ``(layer groups, models, filters and the rest, parameters)``."""
    step = N_LAYERS // len(values)
    slices = []
    for group, by_model in enumerate(values):
        sources: list[dict[str, Any]] = [{"model": "base"}]
        for model, by_part in zip(models, by_model, strict=True):
            parameters = {
                name: [{"filter": part, "value": float(v[i])} for part, v in zip([*filters, None], by_part, strict=True)]
                for i, name in enumerate(("weight", "density")[: len(by_part[0])])
            }
            sources.append({"model": model, "parameters": parameters})
        for source in sources:
            source["layer_range"] = [group * step, (group + 1) * step]
        slices.append({"sources": sources})
    config = {"merge_method": method, "base_model": "base", "slices": slices, "parameters": {"normalize": normalize == "true"}}
    return OmegaConf.to_yaml(OmegaConf.create(config))


def genome_yaml(method: str, granularity: int, filters: Sequence[str], *, smooth: bool, normalize: str) -> str:
    return (
        f"genome: {{models: [a, b], base_model: base, merge_method: {method}, layer_granularity: {granularity}, "
        f"filters: [{', '.join(filters)}], smooth: {str(smooth).lower()}, normalize: {normalize}}}\ntasks: [t]\n"
    ).replace("filters: [], ", "")


def meant(text: str) -> ParameterSpaceRecipe:
    recipe = from_mergekit(text, "yaml", lambda _: Shape(N_LAYERS, NAMES, "bfloat16"))
    assert isinstance(recipe, ParameterSpaceRecipe)
    return recipe


def assert_same_merges(ours: ParameterSpaceRecipe, theirs: ParameterSpaceRecipe) -> None:
    assert (ours.method, dict(ours.options), ours.base) == (theirs.method, dict(theirs.options), theirs.base)
    for name in NAMES:
        own, other = (dict(rule_of(recipe, name).values) for recipe in (ours, theirs))
        assert other.pop("lambda", 1.0) == 1.0
        assert {key: pytest.approx(value) for key, value in own.items()} == other, name


@pytest.mark.parametrize(("granularity", "filters"), [(8, ["self_attn", "mlp"]), (2, []), (4, ["mlp"])])
@pytest.mark.parametrize(("method", "normalize"), [("dare_ties", "false"), ("ties", "true"), ("task_arithmetic", "false")])
def test_genes_mean_the_merge_that_mergekit_evolve_makes_of_them(
    method: str, normalize: str, granularity: int, filters: list[str], tmp_path: Path
) -> None:
    experiment = translated(genome_yaml(method, granularity, filters, smooth=False, normalize=normalize))
    space = space_of(composed(experiment, tmp_path))
    n_parameters = 1 if method == "task_arithmetic" else 2
    shape = (N_LAYERS // granularity, len(filters) + 1, n_parameters, 2)  # ours: the sources last
    genome = np.random.default_rng(0).uniform(0.1, 0.9, len(space.genes))
    theirs = by_groups("ab", method, normalize, genome.reshape(shape).transpose(0, 3, 1, 2), filters)
    assert_same_merges(space.decode(genome), meant(theirs))


def test_smooth_means_gradients_through_the_numbers_of_the_groups(tmp_path: Path) -> None:
    filters = ["self_attn"]
    space = space_of(composed(translated(genome_yaml("ties", 2, filters, smooth=True, normalize="true")), tmp_path))
    genome = np.random.default_rng(0).uniform(0.1, 0.9, len(space.genes))
    values = genome.reshape(4, 2, 2, 2)  # points, filters and the rest, parameters, sources
    models: list[dict[str, Any]] = [{"model": "base"}]
    for place, model in enumerate("ab"):
        parameters = {
            name: [{"filter": part, "value": values[:, k, i, place].tolist()} for k, part in enumerate([*filters, None])]
            for i, name in enumerate(("weight", "density"))
        }
        models.append({"model": model, "parameters": parameters})
    theirs = {"merge_method": "ties", "base_model": "base", "models": models, "parameters": {"normalize": True}}
    assert_same_merges(space.decode(genome), meant(OmegaConf.to_yaml(OmegaConf.create(theirs))))


def test_the_search_begins_where_mergekit_evolve_does(tmp_path: Path) -> None:
    space = space_of(composed(translated(DOCUMENTED), tmp_path))
    starts = {(gene.name.split("/")[1], round(gene.start, 5)) for gene in space.genes}
    assert starts == {("weight", round(1 / 3, 5)), ("density", 1.0)}


def test_tasks_with_metrics_of_their_own_are_parts_and_lower_is_better_where_the_weight_is_negative(tmp_path: Path) -> None:
    experiment = translated("""
        genome: {models: [a, b], merge_method: linear}
        tasks:
          - {name: x/y, metric: "exact_match,strict-match", weight: 2}
          - {name: z, metric: "brier_score,none", weight: -0.5}
        num_fewshot: 3
        apply_chat_template: false
        """)
    config = composed(experiment, tmp_path)
    assert config.task.parts.x_y.names == ["x/y"]
    assert (config.task.parts.z.metric, config.task.parts.z.num_fewshot) == ("brier_score,none", 3)
    assert config.scalarize.weights == [2.0, 0.5]
    assert config.merge.method.normalize
    assert config.models.base is None


@pytest.mark.parametrize(("named", "ours"), [("union", "union"), ("base", "base"), ("./b", "b"), ("./base", "base")])
def test_the_tokenizer_is_that_of_the_models(named: str, ours: str, tmp_path: Path) -> None:
    experiment = translated(f"""
        genome: {{models: [./a, ./b], base_model: ./base, merge_method: ties, tokenizer_source: {named}}}
        tasks: [t]
        apply_chat_template: false
        """)
    assert composed(experiment, tmp_path).models.tokenizer == ours


def test_a_tokenizer_of_no_model_of_the_merge_is_one_sentence() -> None:
    with pytest.raises(RecipeError, match=r"'./c' is none of the models of the merge"):
        translated("genome: {models: [./a, ./b], merge_method: linear, tokenizer_source: ./c}\ntasks: [t]")


@pytest.mark.parametrize("is_random", [False, True])
def test_a_search_that_begins_at_random_does_so_here(tmp_path: Path, is_random: bool) -> None:
    experiment = translated(
        f"genome: {{models: [./a, ./b], merge_method: linear}}\ntasks: [t]\nrandom_init: {str(is_random).lower()}"
    )
    config = composed(experiment, tmp_path)
    assert config.optimizer.random_mean == is_random
    assert "random_init" not in "".join(experiment.notes)
    optimizer = instantiate(config.optimizer, space_of(config).genes, 3, sigma0=1e-6, population_size=50)
    is_at_the_start = np.allclose(optimizer.ask(), [gene.start for gene in space_of(config).genes], atol=1e-3)
    assert is_at_the_start != is_random


def test_what_has_no_counterpart_is_said() -> None:
    notes = "\n".join(
        translated("""
            genome: {models: [base, a], base_model: base, merge_method: task_arithmetic, allow_negative_weights: true,
                     smooth: true}
            tasks: [{name: t, weight: -1, metric: "perplexity,none"}, u]
            random_init: true
            shuffle: true
            fewshot_as_multiturn: false
            """).notes
    )
    for key in (
        "random_init",
        "smooth",
        "models: the base",
        "shuffle",
        "fewshot_as",
        "sigma0",
        "weight",
    ):
        assert f"{key}" in notes
    assert "log-likelihoods" in notes
    assert "[-1, 1]" in notes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "genome: {models: [a], merge_methd: ties}\ntasks: [t]",
            "line 1: unknown key 'merge_methd'; did you mean 'merge_method'",
        ),
        ("genome:\n  models: [a, b]\n  merge_method: tis\ntasks: [t]", "line 3: .*no merge_method 'tis'; did you mean 'ties'"),
        ("genome: {models: [a], merge_method: ties}\ntasks: [t]", "'ties' needs a base_model"),
        ("genome: {models: [a, b], merge_method: linear}", "'tasks' must be a list"),
        ("genome: {models: [a, b], merge_method: linear}\ntasks:\n- t\n- {nam: u}", "line 4: unknown key 'nam'"),
        (
            "genome: {models: [a, b], merge_method: linear}\ntasks: [t]\nlimt: 3",
            "line 3: unknown key 'limt'; did you mean 'limit'",
        ),
        ("genome: {models: [a, b], merge_method: linear}\ntasks: [t]\nlimit: many", "line 3: 'limit' must be a whole number"),
        ("genome: {models: [a, b, c], merge_method: slerp}\ntasks: [t]", "of 3 models slerp would take the two"),
        ("genome: {models: [a, b], merge_method: slerp, filters: [mlp]}\ntasks: [t]", "neither filters nor smooth for slerp"),
        ("genome: {models: [base], base_model: base, merge_method: ties}\ntasks: [t]", "the base is the only model"),
        (
            "genome: {models: [a, b], merge_method: linear}\ntasks: [{name: t, weight: 0}]",
            "'weight' must be a number other than 0",
        ),
    ],
)
def test_a_broken_genome_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=f"'genome.yml', line .*{said.removeprefix('line ')}"):
        translated(text)


def test_the_command_writes_the_experiment_and_prints_how_to_run_it(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "my genome.yml").write_text(textwrap.dedent(DOCUMENTED))
    ended = command("genome='my genome.yml'", "out=evolved", "include_path=tasks", verb="from_evolve")
    assert ended.code == 0
    written = (tmp_path / "evolved" / "experiment" / "my_genome.yaml").read_text()
    assert written in ended.out
    assert "include_path: tasks" in written
    assert "python -m evo_merge --config-dir evolved experiment=my_genome\n" in ended.out
    assert "- apply_chat_template: " in ended.out


def test_an_experiment_that_is_there_is_not_written_over(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "genome.yml").write_text(textwrap.dedent(DOCUMENTED))
    written = tmp_path / "evolved" / "experiment" / "genome.yaml"
    assert [command("genome=genome.yml", "out=evolved", verb="from_evolve").code for _ in range(2)] == [0, 0]  # it is the same
    written.write_bytes(b"budget: 12\xff\n")  # what its user made of it
    ended = command("genome=genome.yml", "out=evolved", verb="from_evolve")
    assert ended.code == 2
    assert ended.err == (
        "evo-merge: 'evolved/experiment/genome.yaml' exists and is another experiment; choose another out=DIR, or remove it\n"
    )
    assert ended.out == ""  # nothing looks like an experiment that was written
    assert written.read_bytes() == b"budget: 12\xff\n"


def test_the_build_command_says_where_a_genome_belongs(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "genome.yml").write_text(textwrap.dedent(DOCUMENTED))
    ended = command("recipe=genome.yml", "out=merged", verb="build")
    assert ended.code == 2
    assert "python -m evo_merge.from_evolve genome=genome.yml out=DIR" in ended.err


def test_the_notes_say_where_own_tasks_are_named_and_what_the_search_needs() -> None:
    text = "genome: {models: [./a, ./b], merge_method: linear, layer_granularity: 3}\ntasks: [mine]"
    notes = "\n".join(translated(text).notes)
    assert "task.include_path=DIR names the folder of your own task YAMLs" in notes
    assert "pip install -c constraints.txt -e '.[harness]'" in notes
    assert "layer_granularity: 3 must divide the number of layers; else mergekit-evolve refuses the genome" in notes
    assert "include_path" not in "\n".join(from_evolve(text, "'genome.yml'", "genome", include_path="tasks").notes)
