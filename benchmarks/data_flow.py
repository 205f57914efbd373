"""Evaluations that a search through layers needs to find a planted path: ``python benchmarks/data_flow.py``.

A tiny model is trained until every layer of it matters, then taken apart in a way that is known, so that the path that
repairs it is known too. Spaces, encodings, optimizers and the models that run the paths are the product's, with the options
of ``conf/``. Prints one table. The trained model and all scores are kept in ``outputs/benchmarks/data_flow``;
delete the folder after changing what is trained or asked.
"""

import argparse
import random
import statistics
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from transformers import LlamaForCausalLM

from evo_merge.command_line import CONF
from evo_merge.evaluation.base import Evaluation
from evo_merge.models.assemble import Assembler
from evo_merge.models.pool import Pool
from evo_merge.models.tiny import train
from evo_merge.recipe import DataFlowRecipe, ModelReference, Source, Step, to_record
from evo_merge.seeds import child_seed
from evo_merge.spaces.base import Ingredients
from evo_merge.spaces.data_flow import DataFlowSpace
from evo_merge.tasks import tiny_world as world

FOLDER = Path("outputs/benchmarks/data_flow")
N_LAYERS, WIDTH, STEPS, LEARNING_RATE = 10, 16, 1500, 5e-3  # so narrow that it needs all its layers
KINDS = ("+", "-", "×")
N_PROBLEMS = 32
SAME = 1e-6  # two sums of the same numbers
MAX_IDLE = 100  # generations without a new recipe, after which the product ends a search as well

# The encodings that each optimizer can move.
PAIRS = (
    ("random", "indicator"),
    ("random", "binary"),
    ("random", "slots"),
    ("random", "segments"),
    ("cmaes", "indicator"),
    ("cmaes", "segments"),
    ("sep_cmaes", "indicator"),
    ("sep_cmaes", "segments"),
    ("cmaes_margin", "binary"),
    ("catcma", "indicator"),
    ("catcma", "binary"),
    ("catcma", "slots"),
    ("catcma", "segments"),
)


# --- the model -------------------------------------------------------------------------------------------------------


def trained_model() -> Path:
    """A model that solves English problems of one step, trained once: a folder."""
    folder = FOLDER / "intact"
    if not (folder / "config.json").exists():
        model = new_model()
        loss = train.train(model, train.Stage(lesson, STEPS, LEARNING_RATE, ""), random.Random("data_flow"))
        note(f"trained a model of {N_LAYERS} layers, loss {loss:.5f}")
        model.save_pretrained(folder)
    return folder


def new_model() -> LlamaForCausalLM:
    """Deeper and narrower than the embedded family, else the same."""
    config = train.new_model(0).config
    config.num_hidden_layers, config.hidden_size, config.intermediate_size = N_LAYERS, WIDTH, 2 * WIDTH
    config.num_attention_heads = config.num_key_value_heads = 1
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.4 / WIDTH**0.5, generator=generator)
    return model


def lesson(rng: random.Random) -> train.Lesson:
    """Two drills for three problems."""
    if rng.random() < 0.4:
        return train.drill_lesson(rng, KINDS)
    return solved(world.draw_problem(rng, "train", KINDS))


def solved(problem: world.Problem) -> train.Lesson:
    """A problem with its English answer."""
    return train.answer_lesson(world.question_pieces(problem, "en"), world.answer_pieces(problem, "en"))


def ruined_model(intact: Path) -> Path:
    """The same model with the numbers of every tensor of its layers in random order, which keeps their norms."""
    folder = FOLDER / "ruined"
    if not (folder / "config.json").exists():
        model = LlamaForCausalLM.from_pretrained(intact)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.model.layers.parameters():
                order = torch.randperm(parameter.numel(), generator=generator)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
        model.save_pretrained(folder)
    return folder


# --- what is planted -------------------------------------------------------------------------------------------------

Layer = tuple[str, int]  # (intact or ruined, which)


@dataclass(frozen=True)
class Plant:
    """Two models made of intact and ruined layers, and the path that repairs them.

    Attributes:
        models: What stands at each layer of A and of B.
        repair: The path, as (model, layer).
    """

    models: dict[str, tuple[Layer, ...]]
    repair: tuple[tuple[str, int], ...]

    def layers(self, path: Sequence[Step]) -> str:
        """What a path runs through, whatever it is called in A or B; a ruined layer has a minus."""
        met = [self.models[step.model][step.layer] for step in path]
        return " ".join(f"{'-' if kind == 'ruined' else ''}{layer}" for kind, layer in met)


def cut(seed: int) -> Plant:
    """A is intact up to a cut and in its last layer, B from the cut on. Every seed has the next of all places."""
    place, last = 2 + seed % (N_LAYERS - 3), N_LAYERS - 1
    a = tuple(("intact" if layer < place or layer == last else "ruined", layer) for layer in range(N_LAYERS))
    b = tuple(("ruined" if layer < place else "intact", layer) for layer in range(N_LAYERS))
    repair = (*(("a", i) for i in range(place)), *(("b", i) for i in range(place, last)), ("a", last))
    return Plant({"a": a, "b": b}, repair)


def shuffled(seed: int) -> Plant:
    """A's inner layers are cut into three blocks that change their order, both drawn by the seed; B is ruined."""
    rng, last = random.Random(f"shuffled/{seed}"), N_LAYERS - 1
    first, second = sorted(rng.sample(range(2, last), 2))
    blocks = [range(1, first), range(first, second), range(second, last)]
    while (order := rng.sample(blocks, 3)) == blocks:
        pass
    inner = [layer for block in order for layer in block]
    a = tuple(("intact", layer) for layer in (0, *inner, last))
    b = tuple(("ruined", layer) for layer in range(N_LAYERS))
    repair = (("a", 0), *(("a", 1 + inner.index(layer)) for layer in range(1, last)), ("a", last))
    return Plant({"a": a, "b": b}, repair)


PLANTS = {"cut": cut, "shuffled": shuffled}


class Scorer:
    """Scores the paths of one plant by the models that the product runs; what was scored before is known.

    Args:
        plant: What A and B are made of.
        known: Mean log probability of a right answer token by what a path runs through; grows.
    """

    def __init__(self, plant: Plant, known: "Known") -> None:
        self._plant, self._known = plant, known
        intact = trained_model()
        places = tuple(Source(p.name, ModelReference(str(p))) for p in (intact, ruined_model(intact)))
        made = {
            name: DataFlowRecipe(places, tuple(Step(*layer) for layer in layers), "residual", "float32")
            for name, layers in plant.models.items()
        }
        self.pool = Pool(base=None, sources=[{"name": name, "recipe": to_record(recipe)} for name, recipe in made.items()])
        self._assembler = Assembler(self.pool, torch.device("cpu"))
        drawn = (problem for problem in world.problems("search", 10 * N_PROBLEMS, 0) if problem.kind in KINDS)
        self._tokens, targets = train.batch([solved(problem) for problem, _ in zip(drawn, range(N_PROBLEMS), strict=False)])
        self._targets = targets[:, 1:]

    def score(self, path: tuple[Step, ...]) -> float:
        """Mean log probability of the right answer tokens, given those before."""
        layers = self._plant.layers(path)
        if layers not in self._known.scores:
            logits = self._logits(path)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), self._targets.flatten(), ignore_index=train.IGNORED)
            self._known.add(layers, -float(loss))
        return self._known.scores[layers]

    def exact(self, path: tuple[Step, ...]) -> float:
        """Share of the problems all of whose answer tokens are the most probable ones."""
        right = (self._logits(path).argmax(-1) == self._targets) | (self._targets == train.IGNORED)
        return float(right.all(1).float().mean())

    @torch.no_grad()
    def _logits(self, path: tuple[Step, ...]) -> torch.Tensor:
        recipe = DataFlowRecipe(self.pool.recipe_sources, path, "residual", "float32")
        logits: torch.Tensor = self._assembler.assemble(recipe)(input_ids=self._tokens, use_cache=False).logits
        return logits[:, :-1]


class Known:
    """Scores in a file that only grows."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.scores = {layers: float(score) for layers, score in (line.split("\t") for line in lines)}
        self._file = path.open("a", buffering=1)

    def add(self, layers: str, score: float) -> None:
        """One more."""
        self.scores[layers] = score
        self._file.write(f"{layers}\t{score!r}\n")


# --- the searches ----------------------------------------------------------------------------------------------------


def evaluations_needed(
    scorer: Scorer, target: float, optimizer: str, encoding: str, options: Sequence[str], budget: int, seed: int
) -> int | None:
    """Distinct recipes, as the product's budget counts them, up to the first that scores like the planted path."""
    config = composed(optimizer, encoding, options)
    sources = scorer.pool.recipe_sources
    ingredients = Ingredients(None, sources, (), "float32", (N_LAYERS,) * len(sources))
    space: DataFlowSpace = instantiate(config.merge, ingredients, child_seed(seed, "merge"), _convert_="all")
    search = instantiate(config.optimizer, space.genes, child_seed(seed, "optimizer"), _convert_="all")
    seen: set[tuple[Step, ...]] = set()
    idle = 0
    while len(seen) < budget and idle < MAX_IDLE:
        genomes, evaluations, before = search.ask(), [], len(seen)
        for genome in genomes:
            path = space.decode(genome).path
            seen.add(path)
            score = scorer.score(path)
            if score >= target - SAME:
                return len(seen) if len(seen) <= budget else None
            evaluations.append(Evaluation(("log probability",), 1, np.full((1, 1), score), ("",)))
        search.tell(genomes, evaluations)
        idle = idle + 1 if len(seen) == before else 0
    return None


def composed(optimizer: str, encoding: str, options: Sequence[str]) -> DictConfig:
    """What the product composes for these choices."""
    choices = [f"optimizer={optimizer}", "merge=dfs", f"merge/encoding={encoding}", "merge/scales=none"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", overrides=[*choices, *options])


# --- the table -------------------------------------------------------------------------------------------------------


def main() -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="searches for each entry of the table")
    parser.add_argument("--budget", type=int, default=500, help="evaluations after which a search has failed")
    parser.add_argument("--only", nargs="*", default=[""], help="rows and columns whose <plant>/<optimizer>/<encoding> has it")
    parser.add_argument("--options", nargs="*", default=[], help="of all searches, for example optimizer.population_size=24")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the libraries that search
    torch.set_num_threads(1)
    known = Known(FOLDER / "scores.tsv")
    wanted = {
        (plant, *pair) for plant in PLANTS for pair in PAIRS if any(part in "/".join((plant, *pair)) for part in options.only)
    }
    needed: dict[tuple[str, str, str], list[int | None]] = {entry: [] for entry in wanted}
    for plant in (name for name in PLANTS if any(entry[0] == name for entry in wanted)):
        for seed in range(options.seeds):
            planted = PLANTS[plant](seed)
            scorer = Scorer(planted, known)
            repair = tuple(Step(*step) for step in planted.repair)
            target = scorer.score(repair)
            alone = tuple(Step("a", layer) for layer in range(N_LAYERS))
            note(f"{plant} {seed}: {planted.layers(alone)}: {scorer.score(alone):.3f}, exact {scorer.exact(alone):.2f}; "
                 f"repaired {target:.5f}, exact {scorer.exact(repair):.2f}")  # fmt: skip
            for optimizer, encoding in (pair for pair in PAIRS if (plant, *pair) in wanted):
                found = evaluations_needed(scorer, target, optimizer, encoding, options.options, options.budget, seed)
                needed[plant, optimizer, encoding].append(found)
                note(f"{plant} {seed} {optimizer} {encoding}: {found}")
    for line in table(needed, options.seeds, options.budget):
        print(line)
    return 0


def table(needed: dict[tuple[str, str, str], list[int | None]], seeds: int, budget: int) -> Iterator[str]:
    """Lines of Markdown."""
    plants = [plant for plant in PLANTS if any(entry[0] == plant for entry in needed)]
    yield "| optimizer | encoding | " + " | ".join(f"{plant}: found | evaluations" for plant in plants) + " |"
    yield "|---|---|" + "---|---|" * len(plants)
    for pair in PAIRS:
        if any((plant, *pair) in needed for plant in plants):
            cells = [cell for plant in plants for cell in _cells(needed.get((plant, *pair)), seeds, budget)]
            yield f"| {' | '.join((*pair, *cells))} |"


def _cells(needed: list[int | None] | None, seeds: int, budget: int) -> tuple[str, str]:
    if needed is None:
        return "", ""
    median = statistics.median([budget + 1 if count is None else count for count in needed])
    n_found = sum(count is not None for count in needed)
    return f"{n_found} of {seeds}", f"over {budget}" if median > budget else f"{median:.0f}"


def note(line: str) -> None:
    """What goes on, beside the table."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
