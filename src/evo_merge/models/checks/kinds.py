"""Every kind of finding about a pool: how grave it is, what it means, what to do. ``docs/check.md`` is this table."""

from dataclasses import dataclass

from evo_merge.errors import ModelError
from evo_merge.findings import Finding, Severity


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding.

    Attributes:
        name: Stable.
        severity: Where weights are mixed.
        meaning: For the table in the docs.
        mend: What to do, unless a finding knows better.
        on_paths: Where layers of several models run in one path; ``None`` is as where weights are mixed.
    """

    name: str
    severity: Severity
    meaning: str
    mend: str
    on_paths: Severity | None = None

    def found(self, text: str, *models: str, mend: str | None = None, on_paths: bool = False) -> Finding:
        """A finding of this kind about the named models."""
        severity = self.on_paths if on_paths and self.on_paths is not None else self.severity
        return Finding(self.name, severity, text, self.mend if mend is None else mend, models)


_TUNED = "choose models tuned from one base"
_AGAIN = "download the model again"

# --- one model: its files -------------------------------------------------------------------------------------------------
NOT_FOUND = Kind("not_found", "refusal", "no folder, file or hub model of that name", "correct the name")
NO_CONFIG = Kind("no_config", "refusal", "a folder without `config.json`", "name a folder that save_pretrained wrote")
UNREADABLE_CONFIG = Kind(
    "unreadable_config", "refusal", "a config that transformers cannot read, or of an unknown architecture", "mend config.json"
)
NO_WEIGHTS = Kind(
    "no_weights", "refusal", "an empty folder, or a config or a tokenizer without weights", "name a folder with *.safetensors"
)
ADAPTER_AS_MODEL = Kind(
    "adapter_as_model", "refusal", "an adapter's folder named as if it were a model", "write {adapter: DIR, base: MODEL}"
)
PICKLES_ONLY = Kind(
    "pickles_only", "refusal", "weights in pickles (`.bin`, `.pt`) only", "convert it to safetensors with save_pretrained"
)
BROKEN_INDEX = Kind("broken_index", "refusal", "an index of shards that cannot be read", _AGAIN)
MISSING_SHARD = Kind("missing_shard", "refusal", "the index names a file that is not there", _AGAIN)
INDEX_MISMATCH = Kind("index_mismatch", "refusal", "the index names a tensor that no shard holds", _AGAIN)
TRUNCATED = Kind("truncated", "refusal", "a safetensors or GGUF file that is cut short or corrupted", _AGAIN)
LFS_POINTER = Kind("lfs_pointer", "refusal", "a Git LFS pointer in the place of the weights", "run 'git lfs pull' there")
UNREADABLE = Kind("unreadable", "refusal", "anything else that keeps a model from being read", _AGAIN)
QUANTISED = Kind(
    "quantised",
    "refusal",
    "weights quantised to fp8, GPTQ, AWQ, bitsandbytes or the like, which are not numbers to be mixed",
    "name the model in full precision that it was made from",
)
UNREADABLE_TOKENIZER = Kind("unreadable_tokenizer", "refusal", "a tokenizer that cannot be read", "mend the tokenizer's files")
NO_TOKENIZER = Kind("no_tokenizer", "warning", "a model without a tokenizer", "copy the one that it was trained with to it")
NOT_A_LANGUAGE_MODEL = Kind(
    "not_a_language_model", "refusal", "a classifier, an encoder, or another model that is no causal language model", "drop it"
)
INCOMPLETE = Kind("incomplete", "refusal", "a tensor that the config's architecture needs is not there", _AGAIN)
CONFIG_MISMATCH = Kind(
    "config_mismatch",
    "refusal",
    "tensors of other shapes than the config says",
    "put the config that belongs to the weights there",
)
REARRANGED = Kind(
    "rearranged",
    "refusal",
    "weights that transformers rearranges when it loads them, so that a search cannot write candidates in memory (HRM-Text)",
    "write a recipe and build it (evo_merge.build); a search over such models is not possible yet",
)
UNFOLDABLE = Kind(
    "unfoldable",
    "refusal",
    "with `paths=true`: an architecture whose weights cannot take up the scales of a path, so that no search runs through it",
    "choose models of another architecture; a path without scales can be written as a recipe and built (evo_merge.build)",
)
TOKEN_OUT_OF_RANGE = Kind(
    "token_out_of_range",
    "warning",
    "the tokenizer knows tokens that the embeddings have no row for",
    "do not use those tokens, or resize the embeddings of all models",
)
LICENCE_UNKNOWN = Kind(
    "licence_unknown",
    "warning",
    "a model that states no licence (only `check` says so; a run states it in its plan and its model card)",
    "ask its author, or state it: {model: …, licence: …}",
)
LICENCE_CONFLICT = Kind(
    "licence_conflict", "warning", "licences under which a merge may not be shared", "keep the merge to yourself, or drop one"
)

# --- one model: its values ------------------------------------------------------------------------------------------------
NOT_FINITE = Kind("not_finite", "refusal", "a NaN or an infinity among the sampled values", "download it again, or drop it")
ZERO_TENSORS = Kind(
    "zero_tensors",
    "warning",
    "a matrix of nothing but zeros where another model's has numbers",
    "look whether it was written whole",
)
TIED_COPY_DIFFERS = Kind(
    "tied_copy_differs",
    "warning",
    "the config ties head and embeddings, but the file has a head with other numbers, which is ignored",
    "set tie_word_embeddings to false in config.json if the head was trained",
)

# --- adapters -------------------------------------------------------------------------------------------------------------
ADAPTER_CONFIG = Kind("adapter_config", "refusal", "an adapter whose config cannot be read", "mend adapter_config.json")
ADAPTER_KIND = Kind(
    "adapter_kind", "refusal", "an adapter that is no LoRA, or changes more than LoRA does", "merge it into its base first"
)
ADAPTER_SHAPES = Kind(
    "adapter_shapes", "refusal", "an adapter made for a model of other sizes", "put it on the model it was made for"
)
ADAPTER_TARGETS = Kind(
    "adapter_targets", "refusal", "an adapter of tensors that its base does not have", "put it on the model it was made for"
)
ADAPTER_RANK = Kind(
    "adapter_rank",
    "refusal",
    "matrices of another rank than the adapter's config says",
    "put the config that belongs to it there",
)
ADAPTER_BASE = Kind(
    "adapter_base",
    "warning",
    "the adapter's config names another base than it is put on",
    "put it on the model it was made for",
)
ADAPTER_WITHOUT_EFFECT = Kind(
    "adapter_without_effect", "warning", "an adapter that adds zeros: never trained, or scaled by 0", "drop it"
)
ADAPTER_TIED = Kind(
    "adapter_tied",
    "warning",
    "an adapter of embeddings that are also the head: while it was trained the head stayed, merged it changes too",
    "put it on a copy of the base that was saved with tie_word_embeddings=false and a head of its own",
)

# --- two models: what they compute ----------------------------------------------------------------------------------------
ARCHITECTURE = Kind(
    "architecture",
    "refusal",
    "models of different types, even where all shapes agree",
    "choose models of one architecture; where two types compute the same, set model_type in config.json alike",
)
LAYERS = Kind(
    "layers", "refusal", "models of different depth", f"{_TUNED}, or search over layer paths (merge=dfs)", on_paths="warning"
)
SIZES = Kind("sizes", "refusal", "other widths, or another number of experts", _TUNED)
HEADS = Kind("heads", "refusal", "other attention heads, even where all shapes agree", _TUNED)
ACTIVATION = Kind("activation", "refusal", "another activation function", _TUNED)
TIED_WEIGHTS = Kind(
    "tied_weights",
    "warning",
    "head and embeddings are one tensor in one model and two in the other: a mixture has two, and a path what its ends have",
    "save the tied one with a head of its own and tie_word_embeddings: false",
)
BIASES = Kind("biases", "refusal", "one model has biases that the other has not", _TUNED)
SHAPES = Kind("shapes", "refusal", "tensors of one name and different shapes", _TUNED)
MISSING_TENSORS = Kind("missing_tensors", "refusal", "a tensor that one model needs and the other has not", _TUNED)
EXTRA_TENSORS = Kind(
    "extra_tensors",
    "warning",
    "tensors that no layer uses, such as a value head",
    "nothing, if they may be left out of the merge",
)
ROTARY = Kind(
    "rotary",
    "warning",
    "other rotary settings: the same weights turn positions by other angles",
    "choose models of one rope_theta and scaling, or hold the merge against its sources on long inputs",
    on_paths="refusal",
)
NORM_EPS = Kind(
    "norm_eps",
    "warning",
    "another epsilon in the norms",
    "nothing, if it is small; the merge keeps the first's",
    on_paths="refusal",
)
SLIDING_WINDOW = Kind(
    "sliding_window",
    "warning",
    "attention that reaches back another number of tokens",
    "choose models of one window, or hold the merge against its sources on long inputs",
    on_paths="refusal",
)
MAX_POSITIONS = Kind(
    "max_positions", "warning", "made for inputs of another length", "ask the merge no more than the shorter length"
)
OTHER_SETTINGS = Kind(
    "other_settings",
    "warning",
    "any other setting that changes the computation",
    "see that the first's, which the merge keeps, are right",
)
DTYPE = Kind(
    "dtype", "warning", "stored in another precision: differences are partly rounding", "choose sources stored like the base"
)
QUANTISED_SOURCE = Kind(
    "quantised_source",
    "warning",
    "a de-quantised GGUF file beside models in full precision: its task vector is partly rounding",
    "name the model in full precision that it was made from",
)

# --- two models: their words ----------------------------------------------------------------------------------------------
_BY_TOKEN = "match rows by token: models.tokenizer=base or union (docs/vocabularies.md)"
VOCABULARY_SIZE = Kind(
    "vocabulary_size", "refusal", "embeddings of different numbers of rows", f"{_TUNED}, or {_BY_TOKEN}", on_paths="warning"
)
PADDED_VOCABULARY = Kind(
    "padded_vocabulary",
    "refusal",
    "one vocabulary, and embeddings padded to different numbers of rows",
    "keep the base's rows: models.tokenizer=base (docs/vocabularies.md)",
    on_paths="warning",
)
VOCABULARY = Kind("vocabulary", "refusal", "different tokens", f"choose models that share a vocabulary, or {_BY_TOKEN}")
TOKEN_NUMBERS = Kind(
    "token_numbers",
    "refusal",
    "the same tokens under other numbers",
    f"choose models that share a vocabulary, or {_BY_TOKEN}",
)
TOKEN_SPELLING = Kind(
    "token_spelling",
    "warning",
    "rows are matched by token, and two tokenizers spell the same word differently, so that few rows match",
    "choose models with tokenizers of one kind",
)
FEW_SHARED_TOKENS = Kind(
    "few_shared_tokens",
    "warning",
    "rows are matched by token, and less than half of the smaller vocabulary is in both",
    "expect little of the embeddings' merge; choose models whose vocabularies grew from one",
)
ADDED_TOKENS = Kind(
    "added_tokens",
    "warning",
    "one vocabulary is the other with tokens at its end, in rows that both have",
    "see that the first model's tokenizer, which the merge keeps, is the one you want",
)
TOKENIZER_RULES = Kind(
    "tokenizer_rules",
    "warning",
    "one vocabulary, but text is cut into it by other rules",
    "choose models that share a tokenizer",
)
SPECIAL_TOKENS = Kind(
    "special_tokens",
    "warning",
    "other tokens that begin, end or pad a text",
    "see that the first model's, which the merge keeps, are right; answers end at any model's end token",
)
CHAT_TEMPLATE = Kind(
    "chat_template", "warning", "other chat templates", "see that the first model's, which the merge keeps, is the right one"
)

# --- two models: their values ---------------------------------------------------------------------------------------------
COPIES = Kind(
    "copies", "refusal", "two sources are one model, which would count twice", "drop one, or leave one out of models.use"
)
SAME_AS_BASE = Kind("same_as_base", "warning", "a source that is the base itself, so that it adds nothing", "drop it")
NOT_DESCENDED = Kind(
    "not_descended",
    "warning",
    "a source that was not tuned from the named base: its weights are nearly orthogonal to it, or as far from it as zeros",
    "name the base that it was tuned from",
)
FAR_FROM_BASE = Kind(
    "far_from_base",
    "warning",
    "a source far from the named base: long training, or another ancestor",
    "see that the base is right",
)
NO_COMMON_ANCESTOR = Kind(
    "no_common_ancestor", "warning", "without a base: two sources whose weights have nothing in common", _TUNED
)

KINDS = {kind.name: kind for kind in list(globals().values()) if isinstance(kind, Kind)}


def of_error(error: ModelError, *models: str) -> Finding:
    """The finding that an error names about a model."""
    return Finding(error.finding, "refusal", error.text, error.mend, models)
