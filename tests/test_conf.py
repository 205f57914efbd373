"""Every yaml of ``conf/`` against the program."""

import re
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from evo_merge.__main__ import PARTS
from evo_merge.calibrate import PARTS as CALIBRATE_PARTS
from evo_merge.command_line import CONF
from evo_merge.compose import compose_parts
from evo_merge.config import check, run_settings
from evo_merge.errors import ConfigError, RecipeError
from evo_merge.evaluate import PARTS as EVALUATE_PARTS
from evo_merge.racing.rules import Rules

NEEDED = {  # what has no default, because only the user knows it
    "models=custom": ["models.sources=[a]"],
    "models=smollm2_ja_math": ["models.adapters=a"],
    "task=smollm2_ja_math": ["models.adapters=a"],
    **{f"task={name}": ["models=tiny_ja_math"] for name in ("question_answer", "gsm8k", "mawps_ja", "jp_lmeh")},
    "task=jp_lmeh_free": ["models=tiny_ja_math", "task.data=."],
    "task=multiple_choice": ["models=tiny_ja_math"],
    "task=lm_eval": ["task.names=[a]", "models=tiny_ja_math"],
    **{f"merge={name}": ["models.use=[ja,math_a]"] for name in ("slerp", "nuslerp")},
    **{f"merge={name}": ["models.use=[math_a]"] for name in ("nearswap", "arcee_fusion", "passthrough")},
    "merge=automerge": ["optimizer=random"],
    "optimizer=cmaes_warm": ["optimizer.study=outputs/earlier"],
    "task=several": ["+task@task.parts.ja=tiny_ja_math", "+task@task.parts.en=tiny_en_math"],
}
NEED_A_RUN = {"optimizer=cmaes_warm"}  # the optimizers' own tests build these
NEED_STATISTICS = {"merge=fisher", "merge=regmean"}  # the tests of calibration build these
CHOICES = sorted(f"{group}={file.stem}" for group in PARTS for file in (CONF / group).glob("*.yaml"))
PATH_CHOICES = sorted(f"{file.parent.relative_to(CONF)}={file.stem}" for file in (CONF / "merge").glob("*/*.yaml"))
FITTING = {"merge/encoding=binary": "cmaes_margin", "merge/encoding=slots": "catcma"}  # optimizers that know such genes
JP_LMEH = sorted(f"task=jp_lmeh/{file.stem}" for file in (CONF / "task" / "jp_lmeh").glob("*.yaml"))
EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
YAMLS = sorted(str(file.relative_to(CONF)) for file in CONF.rglob("*.yaml"))


def composed(*words, name="config"):
    needed = [word for choice in words for word in NEEDED.get(choice, [])]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=[*words, *needed])


def keys(node, path):
    """Every (path of a part, its keyword) of a composed config."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield from ((path, key) for key in node if not key.startswith("_"))
        for key, child in node.items():
            yield from keys(child, f"{path}.{key}")


def test_conf_has_the_groups_that_the_program_composes():
    assert {file.parent.name for file in CONF.glob("*/*.yaml")} == {*PARTS, "experiment"}
    assert {group for group, _ in (choice.split("=") for choice in PATH_CHOICES)} == {"merge/encoding", "merge/scales"}
    assert len(JP_LMEH) == 9 + 3
    assert len(CHOICES) >= 9 + 15 + 6 + 6 + 1 + 3 + 3 + 2
    assert len(PATH_CHOICES) >= 4 + 4


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_fits(choice):
    config = composed(choice)

    check(config, PARTS)
    assert run_settings(config).seed == config.seed


@pytest.mark.parametrize("choice", JP_LMEH)
def test_every_task_of_the_harness_composes_fits_and_builds(choice):
    config = composed(choice, "models=tiny_ja_math")

    check(config, PARTS)
    assert instantiate(config.task, _convert_="all").objectives


@pytest.mark.parametrize("choice", PATH_CHOICES)
def test_every_choice_inside_dfs_composes_fits_and_builds(choice):
    config = composed("merge=dfs", choice, f"optimizer={FITTING.get(choice, 'cmaes')}")

    check(config, PARTS)
    (space,) = built(config).spaces.values()
    assert config.merge[choice.split("/")[1].split("=")[0]]._target_.startswith("evo_merge.spaces.path_")
    start = np.asarray([gene.start for gene in space.genes])
    assert space.decode(start) == space.singles()["math_a"]  # model A of models.data_flow by itself


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_fits(name):
    config = composed(f"experiment={name}")

    check(config, PARTS)
    assert run_settings(config).seed == config.seed


def test_the_configs_of_the_other_commands_compose_and_fit():
    check(composed(name="evaluate"), EVALUATE_PARTS)
    check(composed(name="calibrate"), CALIBRATE_PARTS)
    check(composed("task=tiny_ja_math", name="calibrate"), (*CALIBRATE_PARTS, "task"))
    assert set(composed(name="build")) == {"recipe", "out", "as", "rank", "allow_code"}


@pytest.mark.parametrize("choice", sorted(NEED_STATISTICS))
def test_a_method_that_needs_statistics_says_how_to_gather_them(choice):
    with pytest.raises(RecipeError, match=r"needs statistics of each source; gather them with  python -m evo_merge\.calibrate"):
        built(composed(choice))


def built(config):
    """The searches of a run."""
    return compose_parts(config, run_settings(config)).program


@pytest.mark.parametrize(
    "choice", [c for c in CHOICES if c.startswith(("merge=", "optimizer=")) and c not in NEED_A_RUN | NEED_STATISTICS]
)
def test_every_method_and_optimizer_builds_on_the_embedded_family(choice):
    program = built(composed(choice))

    names = ["ps", *(f"{a}>{b}" for a, b in permutations(["ps", "ja", "math_a", "math_b"], 2))]
    assert list(program.spaces) == (names if choice == "merge=hybrid" else [""])
    space, *pairs = program.spaces.values()
    # Paths of two models of 4 layers: the published array three times over without two slots, and a matrix of scales.
    path_genes = 3 * 8 - 2 + 8**2
    shared = ("slerp", "nearswap", "arcee_fusion", "passthrough", "model_stock", "sce", "ram")  # one gene for all sources
    dims = {f"merge={name}": 1 for name in shared} | {"merge=dfs": path_genes, "merge=automerge": 8, "merge=nuslerp": 2}
    dims |= {
        f"merge={name}": 3
        for name in ("linear", "task_arithmetic", "multislerp", "karcher", "ramplus_tl", "iso_c", "tsv", "wudi")
    }
    dims |= {f"merge={name}": 9 for name in ("breadcrumbs", "breadcrumbs_ties", "della", "della_linear")}
    assert len(space.genes) == dims.get(choice, 6)
    assert {len(pair.genes) for pair in pairs} <= {path_genes}
    recipe = space.decode(np.asarray([gene.start for gene in space.genes]))
    if choice == "merge=dfs":
        assert [(step.model, step.layer) for step in recipe.path] == [("math_a", layer) for layer in range(4)]
    elif choice.startswith("merge=") and choice != "merge=automerge":  # which chooses the method
        assert recipe.method == choice.removeprefix("merge=").replace("hybrid", "dare_ties")


@pytest.mark.parametrize("choice", [c for c in CHOICES if c.startswith("optimizer=") and c not in NEED_A_RUN])
def test_every_optimizer_proposes_genomes_of_the_box(choice):
    config = composed(choice)
    genes = built(config).spaces[""].genes

    optimizer = instantiate(config.optimizer, genes, 1)
    genomes = optimizer.ask()

    assert genomes.shape[1] == len(genes) == 6
    assert all(gene.low <= value <= gene.high for genome in genomes for gene, value in zip(genes, genome, strict=True))


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice not in ("tracker=none", "scalarize=none")])
def test_a_misspelt_key_is_named_with_its_neighbour(choice):
    part = choice.split("=")[0]
    plain = composed(choice)
    # A reference to a key, base: ${models.base}, cannot be followed once the key is misspelt.
    known = list(keys(OmegaConf.to_container(plain[part], resolve=True), part))
    assert known

    for path, key in known:
        wrong = OmegaConf.create(OmegaConf.to_container(plain, resolve=True))
        OmegaConf.update(wrong, f"{path}.{key}x", OmegaConf.select(wrong, f"{path}.{key}"))
        with pytest.raises(ConfigError, match=re.escape(f"{path}.{key}x: ") + rf".*did you mean '{key}'\?"):
            check(wrong, PARTS)


def test_all_problems_are_in_one_report():
    config = composed("+optimizer.sigma=1", "+merge.method.rescal=none", "generator.batch_size=big", "~optimizer.startup_trial")

    with pytest.raises(ConfigError) as error:
        check(config, PARTS)

    for part in (
        "optimizer.sigma: CMAES takes no such key; did you mean 'sigma0'?",
        "merge.method.rescal: DareTies takes no such key; did you mean 'rescale'?",
        "generator.batch_size must be a whole number, got 'big'",
        "optimizer.startup_trial is missing, and CMAES needs it",
    ):
        assert part in str(error.value)


def test_slow_parts_are_looked_at_once_the_others_fit():
    words = ["generator.batch_size=big", "+trainer.max_epoch=3"]
    with pytest.raises(ConfigError, match=r"^optimizer\.sigma0 must be a number, got 'big'$"):
        check(composed("optimizer.sigma0=big", *words), PARTS, last=("generator", "trainer"))
    with pytest.raises(ConfigError, match=r"^generator\.batch_size must .*; trainer\.max_epoch: "):
        check(composed(*words), PARTS, last=("generator", "trainer"))


@pytest.mark.parametrize("yaml", YAMLS)
def test_the_first_line_says_what_the_file_is_for(yaml):
    lines = (CONF / yaml).read_text(encoding="utf-8").splitlines()
    first = lines[1] if lines[0] == "# @package _global_" else lines[0]

    group, name = Path(yaml).parent.name, Path(yaml).stem
    if group in ("merge", "optimizer", "models", "task", "experiment"):
        assert re.match(rf"# python -m evo_merge (\S+ )*{group}={name}\b", first)
    elif group:  # what device, who answers, who is told: a sentence says more than a command
        assert re.match(r"# [A-Z].*\.", first)
    else:
        verb = "" if name == "config" else f".{name}"
        assert first.startswith(f"# python -m evo_merge{verb} ")


@pytest.mark.parametrize("part", ["merge", "optimizer"])
def test_the_command_of_a_first_line_is_a_command(part):
    for file in (CONF / part).glob("*.yaml"):
        command, _, _ = file.read_text().splitlines()[0].removeprefix("# python -m evo_merge ").partition("  ")
        words = command.replace("'", "").split()
        assert f"{part}={file.stem}" in words
        check(composed(*words), PARTS)


# Akiba et al. 2024, section 4.1 and appendix B, and the released evaluation code.
PROMPT = """以下に、あるタスクを説明する指示があります。リクエストを適切に完了するための回答を日本語で記述してください。一歩一歩考えましょう。

### 指示:
{question}

### 応答:"""  # noqa: E501


@pytest.mark.parametrize(
    ("name", "sources"),
    [
        ("evollm_jp_7b", ["augmxnt/shisa-gamma-7b-v1", "WizardLM/WizardMath-7B-V1.1", "GAIR/Abel-7B-002"]),
        ("evollm_jp_a", ["augmxnt/shisa-gamma-7b-v1", "upaya07/Arithmo2-Mistral-7B", "GAIR/Abel-7B-002"]),
    ],
)
def test_the_published_runs_are_word_for_word(name, sources):
    config = composed(f"experiment={name}")

    assert config.models.base.model == "mistralai/Mistral-7B-v0.1"
    assert [source.model for source in config.models.sources] == sources
    assert config.models.use is None
    assert config.merge.method == {
        "_target_": "evo_merge.methods.dare_ties.DareTies",
        "rescale": "density",
        "normalize": False,
    }
    assert config.merge.granularity == "model"
    assert set(config.merge.bounds.values()) == {None}  # the methods' own, [0, 1]
    assert config.optimizer == {
        "_target_": "evo_merge.optimizers.cmaes.CMAES",
        "sigma0": 1 / 6,
        "population_size": None,  # 4 + floor(3 ln 6) = 9
        "startup_trial": True,
        "random_mean": False,
    }
    assert config.budget == {"evaluations": 1000, "generations": None, "minutes": None, "patience": None}
    assert config.selection == "search"
    task = config.task
    assert task.hub.search == {
        "path": "SakanaAI/gsm8k-ja-test_250-1319",
        "name": None,
        "split": "test",
        "revision": None,
    }
    assert task.hub.test == {"path": "juletxara/mgsm", "name": "ja", "split": "test", "revision": None}
    assert set(task.limit.values()) == {None}
    assert task.prompt == PROMPT
    assert task.messages is None
    assert task.stop == ["Instruction:", "Instruction", "Response:", "Response"]
    assert (task.max_new_tokens, task.answer_parser, task.language, task.language_threshold) == (1024, "release", "ja", 0.5)


def test_a_task_names_its_pool_and_the_command_line_wins():
    assert composed("task=mgsm_ja").models.sources[1].name == "wizard_math"
    assert composed().models.base == "builtin:tiny_ja_math/base"
    assert composed("task=mgsm_ja", "models=evollm_jp_a").models.sources[1].name == "arithmo"
    assert composed("task=mgsm_ja", "models=tiny_ja_math").models.base == "builtin:tiny_ja_math/base"


def test_a_task_without_a_pool_asks_for_one():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=["task=question_answer"])

    with pytest.raises(ConfigError, match=r"models\.sources is not set; choose a pool with models=<name>"):
        check(config, PARTS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=-1"], "seed must be 0 or above, got -1"),
        (["selection=best"], "selection must be one of search, validation, got 'best'"),
        (["evaluation.batch=0", "selection=validation"], "evaluation.batch must be at least 1, got 0"),
        (
            ["evaluation.batch=10"],
            "evaluation.batch asks every generation other problems, so that search scores cannot choose between them; "
            "set selection=validation besides, or evaluation.subset=fixed",
        ),
        (["evaluation.subset=fix"], "evaluation.subset must be one of fresh, fixed, disagreement, got 'fix'"),
        (["evaluation.subset=fixed"], "evaluation.subset=fixed chooses evaluation.batch problems, and that is null"),
        (["evaluation.racing=yes please"], "evaluation.racing must be true, null or rules such as"),
        (["evaluation.racing={keeps: 0.5}"], "evaluation.racing: there is no rule 'keeps'; did you mean 'keep'?"),
        (["evaluation.racing={keep: half}"], "evaluation.racing.keep must be a number, got 'half'"),
        (["evaluation.racing={slices: 2.5}"], "evaluation.racing.slices must be a whole number, got 2.5"),
        (["evaluation.racing={risk: 1}"], "evaluation.racing.risk must lie between 0 and 1, got 1"),
    ],
)
def test_the_runs_own_numbers_are_checked(words, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        run_settings(composed(*words))


def test_a_batch_needs_a_split_that_chooses():
    settings = run_settings(composed("evaluation.batch=10", "selection=validation"))

    assert settings.evaluation.batch == 10
    assert run_settings(composed()).evaluation.batch is None


def test_a_race_is_switched_on_by_one_word():
    assert run_settings(composed()).evaluation.race is None
    assert run_settings(composed("evaluation.racing=true")).evaluation.race == Rules(slices=4, keep=0.5, risk=0.05)
    assert run_settings(composed("evaluation.racing={keep: 0.25}")).evaluation.race == Rules(keep=0.25)


def test_optimizers_that_race_use_nothing_of_a_fitness_but_its_rank_in_its_generation():
    names = {file.stem for file in (CONF / "optimizer").glob("*.yaml")}
    classes = {name: get_class(composed(f"optimizer={name}").optimizer._target_) for name in names}
    racing = {name for name, optimizer in classes.items() if getattr(optimizer, "takes_races", False)}

    assert racing == {name for name in names if "cma" in name} | {"random", "sobol"}


def test_a_hybrid_takes_another_method_another_task_and_other_optimizers():
    config = composed(
        "merge=hybrid",
        "merge@merge.parameter.ps.space=linear",
        "+merge@merge.parameter.en.space=ties",
        "+merge.parameter.en.space._partial_=true",
        "+task@merge.parameter.en.task=tiny_ja_math",
        "+merge.parameter.en.budget={generations: 1}",
        "merge/scales@merge.data_flow.space.scales=none",
        "optimizer@merge.data_flow.optimizer=sep_cmaes",
        "merge.pairs=[[en,ja],[ps,en]]",
    )

    check(config, PARTS)
    program = built(config)
    assert {name: len(space.genes) for name, space in program.spaces.items()} == {"ps": 3, "en": 6, "en>ja": 22, "ps>en": 22}
    assert [(name, task.name) for name, task in program.tasks.items()] == [("en", "tiny_ja_math")]
    assert config.merge.data_flow.optimizer._target_.endswith("SepCMAES")
