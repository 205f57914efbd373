"""The tokens of the embedded tiny family: one a piece of its world's texts."""

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from evo_merge.tasks import tiny_world as world

PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"
VOCABULARY = {piece: number for number, piece in enumerate((PAD, BOS, EOS, UNK, *world.PIECES))}


def new_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer: one token a piece, the longest piece first, BOS in front; decoding joins the pieces again."""
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token=UNK))
    longest_first = sorted(world.PIECES, key=len, reverse=True)
    pieces = Regex("|".join(_literal(piece) for piece in longest_first))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, behavior="isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, VOCABULARY[BOS])]
    )
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",  # for generation in batches
        clean_up_tokenization_spaces=False,
        model_max_length=128,
    )


def _literal(piece: str) -> str:
    return "".join("\\" + character if character in "+.?-" else character for character in piece)
