"""A genome of mergekit-evolve as an experiment of ours: the same merges by the same optimizer, and what differs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from evo_merge.interchange.document import Document
from evo_merge.interchange.evolve_genome import EvolveGenome, EvolveTask, parse
from evo_merge.interchange.mergekit_stacks import source_names
from evo_merge.recipe import ModelReference, reference_record
from evo_merge.tokenizer_rule import BASE

# What mergekit does where its YAML does not say, and we by default do not (docs/methods.md).
_PEERS_OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {"dare_ties": {"rescale": "norm"}, "ties": {"equals": "sorted"}}
_FEVALS: Final = 100  # its --max-fevals; its --sigma0 and its population are our own defaults
# Metrics in whose place a mean of log-likelihoods is maximised (docs/lm-eval.md).
_LIKELIHOODS: Final = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")


@dataclass(frozen=True, slots=True)
class Experiment:
    """A translated genome.

    Attributes:
        text: A yaml for the folder ``experiment`` of a ``--config-dir``.
        notes: What has no counterpart or differs, a sentence each.
    """

    text: str
    notes: tuple[str, ...]


def from_evolve(text: str, origin: str, name: str, folder: Path | None = None, include_path: str | None = None) -> Experiment:
    """The experiment of a genome YAML; no model and no task is looked at.

    Args:
        text: The file.
        origin: What messages call it.
        name: What the experiment is called.
        folder: Where relative folders are looked for that do not exist in the working directory.
        include_path: A folder of the user's own tasks, mergekit-evolve's ``--task-search-path``.

    Raises:
        RecipeError: With file and line, what is wrong in it, or what is not searched here.
    """
    genome = parse(Document.read(text, origin), folder)
    parts = _parts(genome.tasks)
    defaults: list[Any] = [
        *({f"/task@task.parts.{part}": "lm_eval"} for part in parts),
        "_self_",
        {"override /merge": genome.method},
        {"override /optimizer": "cmaes"},
        {"override /models": "custom"},
        {"override /task": "several" if parts else "lm_eval"},
        *([{"override /scalarize": "weighted_sum"}] if len(genome.tasks) > 1 else []),
    ]
    config: dict[str, Any] = {
        "defaults": defaults,
        "models": _models(genome),
        "merge": _merge(genome),
        "task": _task(genome, parts, include_path),
    }
    if len(genome.tasks) > 1:
        config["scalarize"] = {"weights": [abs(task.weight) for task in genome.tasks]}  # the objectives are in the tasks' order
    if genome.random_init:
        config["optimizer"] = {"random_mean": True}
    config["budget"] = {"evaluations": _FEVALS}
    head = f"# @package _global_\n# python -m evo_merge --config-dir DIR experiment={name}      (DIR/experiment/{name}.yaml)\n"
    body = yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return Experiment(
        f"{head}# Translated from the mergekit-evolve genome {origin}.\n{body}", tuple(_notes(genome, parts, include_path))
    )


def _models(genome: EvolveGenome) -> dict[str, Any]:
    names = source_names(genome.models)
    models: dict[str, Any] = {
        "base": None if genome.base is None else _plain(genome.base),
        "sources": [{"name": name, **_record(model)} for name, model in zip(names, genome.models, strict=True)],
        "out_dtype": "bfloat16",
    }
    if (wanted := genome.tokenizer_source) is not None:
        models["tokenizer"] = wanted if isinstance(wanted, str) else _name_of(wanted, names, genome)
    return models


def _name_of(model: ModelReference, names: Sequence[str], genome: EvolveGenome) -> str:
    """What the experiment calls a model; raises ``RecipeError`` where it is none of the merge."""
    known = dict(zip(genome.models, names, strict=True)) | ({} if genome.base is None else {genome.base: BASE})
    if model not in known:
        raise genome.document.error(("genome", "tokenizer_source"), f"'{model}' is none of the models of the merge")
    return known[model]


def _merge(genome: EvolveGenome) -> dict[str, Any]:
    granularity: dict[str, Any] = {}
    if genome.layers is not None:
        granularity["layers"] = genome.layers
        if genome.smooth:
            granularity["smooth"] = True
    if genome.filters:
        granularity["filters"] = list(genome.filters)
    merge: dict[str, Any] = {"granularity": granularity or "model"}
    if genome.method == "slerp":
        return merge
    merge["method"] = {"normalize": genome.normalize, **_PEERS_OPTIONS.get(genome.method, {})}
    # Its search begins at equal weights and at nothing dropped.
    merge["bounds"] = {"weight": [-1 if genome.negative else 0, 1, round(1 / (len(genome.models) + genome.names_base), 6)]}
    if genome.method in ("ties", "dare_ties"):
        merge["bounds"]["density"] = [0, 1, 1]
    return merge


def _task(genome: EvolveGenome, parts: tuple[str, ...], include_path: str | None) -> dict[str, Any]:
    said = {"include_path": include_path, "num_fewshot": genome.num_fewshot}
    common: dict[str, Any] = {key: value for key, value in said.items() if value is not None}
    common |= {"limit": {"search": genome.limit}, "apply_chat_template": genome.chat_template}
    named = [{"names": [task.name], "metric": _metric(task)} for task in genome.tasks]
    if parts:
        return {"parts": {part: {**each, **common} for part, each in zip(parts, named, strict=True)}}
    return {"names": [task.name for task in genome.tasks], "metric": named[0]["metric"], **common}


def _parts(tasks: tuple[EvolveTask, ...]) -> tuple[str, ...]:
    """Names of the parts of a ``several``, which it takes where tasks count different metrics, or one of them several."""
    if len({(task.metric, task.filter) for task in tasks}) == 1 and len({task.name for task in tasks}) == len(tasks):
        return ()
    names: list[str] = []
    for task in tasks:
        plain = re.sub(r"\W", "_", task.name)
        names.append(plain if plain not in names else f"{plain}_{re.sub(r'[^0-9A-Za-z]', '_', task.metric)}_{task.filter}")
    return tuple(name.replace("-", "_") for name in names)


def _metric(task: EvolveTask) -> str:
    return f"{task.metric},{task.filter}"


def _notes(genome: EvolveGenome, parts: tuple[str, ...], include_path: str | None) -> list[str]:
    notes = [
        "tasks, limit: mergekit-evolve searches on the problems that the harness reports on; here a search asks training "
        "problems, or where there are none a part of the others, and the test split is scored at the end (docs/lm-eval.md)",
        "dtype: candidates are bfloat16 as there; the arithmetic is float32, where mergekit-evolve computes in bfloat16",
    ]
    if include_path is None:
        setting = "task.parts.<name>.include_path" if parts else "task.include_path"
        notes.append(
            f"tasks: where lm-evaluation-harness does not know them, {setting}=DIR names the folder of your own task YAMLs "
            "(include_path=DIR of this command writes it)"
        )
    notes.append("harness: the search needs lm-evaluation-harness: pip install -c constraints.txt -e '.[harness]'")
    if genome.layers is not None and genome.layers > 1:
        notes.append(
            f"layer_granularity: {genome.layers} must divide the number of layers; else mergekit-evolve refuses the genome, "
            "and so does the search"
        )
    if genome.method == "slerp":
        notes.append("merge_method: slerp has one gene t for each group of layers, in place of two whose softmax is t")
    elif genome.method != "linear" or not genome.normalize:
        notes.append(
            f"bounds: weights have none there, and lie in [{-1 if genome.negative else 0}, 1] here; widen merge.bounds.weight "
            "for greater ones"
        )
    if genome.negative:
        notes.append("sigma0: a share of the box, so that the first step of a weight in [-1, 1] is twice mergekit-evolve's")
    if genome.smooth and genome.layers is None:
        notes.append("smooth: without layer_granularity there is one number for all layers and nothing to make smooth")
    if genome.names_base:
        notes.append("models: the base is left out of the sources, as its task vector is 0; it had genes that changed nothing")
    if genome.random_init and genome.negative:
        notes.append("random_init: the first mean is drawn from the box, weights from [-1, 1], and there from [0, 1)")
    if genome.chat_template:
        notes.append(
            "apply_chat_template: true by default in mergekit-evolve; models without a template need "
            f"{'task.parts.<name>.' if parts else 'task.'}apply_chat_template=false"
        )
    if genome.shuffle:
        notes.append("shuffle: which problems are asked is drawn here in any case, by task.seed")
    if genome.chat_template and not genome.multiturn:
        notes.append("fewshot_as_multiturn: no counterpart; with a chat template shots are turns")
    if len(genome.tasks) > 1 and any(task.metric in _LIKELIHOODS for task in genome.tasks):
        notes.append(
            "tasks: in place of perplexities the sum has mean log-likelihoods, whose scale is another; check the weights"
        )
    if any(task.weight < 0 for task in genome.tasks):
        notes.append("weight: a metric that is better where it is lower is maximised as its negative; weights lose their sign")
    return notes


def _record(reference: ModelReference) -> dict[str, Any]:
    return {key: value for key, value in reference_record(reference).items() if value is not None}


def _plain(reference: ModelReference) -> Any:
    record = _record(reference)
    return record["model"] if record.keys() == {"model"} else record


class _Dumper(yaml.SafeDumper):
    """Plain lists, and models with their names, on one line each."""

    def ignore_aliases(self, data: object) -> bool:
        """What comes twice is written twice."""
        return True


def _list(dumper: _Dumper, data: list[Any]) -> yaml.Node:
    is_plain = not any(isinstance(value, dict | list) for value in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=is_plain)


def _mapping(dumper: _Dumper, data: dict[str, Any]) -> yaml.Node:
    is_source = data.keys() <= {"name", "model", "revision"} or data.keys() == {"search"}
    return dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=is_source)


_Dumper.add_representer(list, _list)
_Dumper.add_representer(dict, _mapping)
