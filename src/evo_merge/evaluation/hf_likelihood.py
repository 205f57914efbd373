"""Log-likelihoods of continuations, over any causal language model of ``transformers``."""

import inspect

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evo_merge.errors import UnusableCandidateError
from evo_merge.evaluation.likelihood import LikelihoodBatch, Tokens
from evo_merge.tasks.base import LogLikelihood


def log_likelihoods(model: PreTrainedModel, batch: LikelihoodBatch) -> tuple[LogLikelihood, ...]:
    """Score every continuation of a batch in one forward pass.

    Rows are padded on the right: what comes after a row's tokens cannot reach them in a causal model, so that neither a mask
    nor positions are needed. Logits are taken in float32, whatever the model computes in, and only where a row needs them.

    Raises:
        UnusableCandidateError: A log-likelihood is not finite.
    """
    texts = batch.texts
    rows = {read: row for row, read in enumerate(texts)}
    # A token's logits stand at the token before it.
    places = [range(len(each.context) - 1, len(each.read)) for each in batch.scored]
    kept = sorted(set().union(*places))
    column = {place: i for i, place in enumerate(kept)}
    with torch.inference_mode():
        logits = _logits(model, list(texts), kept)  # (n, len(kept), vocabulary)
        found: list[LogLikelihood] = []
        for each, at in zip(batch.scored, places, strict=True):
            own = logits[rows[each.read], [column[place] for place in at]].float()  # (n_tokens, vocabulary)
            wanted = torch.tensor(each.continuation, device=own.device)
            chances = own.log_softmax(dim=-1).gather(1, wanted[:, None])
            total = float(chances.sum())
            # A nan or inf among a place's logits makes its softmax nan.
            if not torch.isfinite(chances).all():
                raise UnusableCandidateError(f"the log-likelihood of a continuation is not finite ({total})")
            found.append(LogLikelihood(total, bool((own.argmax(dim=-1) == wanted).all()), len(each.continuation)))
    return tuple(found)


def _logits(model: PreTrainedModel, texts: list[Tokens], kept: list[int]) -> Tensor:
    longest = max(map(len, texts))
    # What stands in the padding is never attended to; 0 is a token of every vocabulary.
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=model.device)
    # The few models without this one compute the logits of every place.
    is_accepted = "logits_to_keep" in inspect.signature(model.forward).parameters
    places = torch.tensor(kept, device=model.device)
    output = model(input_ids=ids, use_cache=False, **({"logits_to_keep": places} if is_accepted else {}))
    logits = output.logits if is_accepted else output.logits[:, places]
    assert isinstance(logits, Tensor)
    return logits
