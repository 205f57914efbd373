"""What the harness asks for a problem, as this project answers it, and the harness' own scoring of the answer."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evo_merge.errors import ConfigError, DataError
from evo_merge.tasks.base import Answering, Decoding, Likelihoods, LogLikelihood, Prompt

Answer = str | tuple[LogLikelihood, ...]
Outcomes = dict[str, dict[str, Any]]
"""Per filter of the task (``strict-match``; ``none`` where a task has none) the values of its metrics."""

# Of generation_kwargs, what says no more than that decoding is greedy; the other keys are read below.
_GREEDY = {
    "do_sample": (False, None),
    "temperature": (0, None),
    "num_beams": (1, None),
    "num_return_sequences": (1, None),
    "repetition_penalty": (1, None),
}
_WITHOUT_EFFECT = {"top_p", "top_k"}  # of greedy decoding


@dataclass(frozen=True, slots=True)
class Asked:
    """A problem as the harness asks it.

    Attributes:
        instances: The harness' requests, in its order.
        prompt: The context of the first; of a text that is scored as a whole the text.
        answering: What the requests are for us.
    """

    instances: tuple[Any, ...]
    prompt: Prompt
    answering: Answering


def context_of(task: Any, doc: Any, n_shots: int, system: str | None, *, is_chat: bool) -> Any:
    """The prompt with its shots, a text or messages; of tasks with several contexts (winogrande) a list of these."""
    prefix = task.doc_to_prefix(doc)
    if is_chat and prefix:
        raise ConfigError(
            f"harness task '{task.task_name}' begins the model's turn (gen_prefix), which goes with plain prompts only; "
            "set task.apply_chat_template=false"
        )
    return task.fewshot_context(
        doc,
        num_fewshot=n_shots,
        system_instruction=system,
        apply_chat_template=is_chat,
        fewshot_as_multiturn=is_chat,
        # The template is the tokenizer's and comes later.
        chat_template=(lambda messages, **_: messages) if is_chat else None,
        gen_prefix=prefix,
    )


def asked(task: Any, doc: Any, doc_id: int, context: Any, *, is_chat: bool) -> Asked:
    """The requests of a problem; ``ConfigError`` where they cannot be answered here."""
    made = task.construct_requests(
        doc=doc,
        ctx=context,
        metadata=(task.task_name, doc_id, task.config.repeats),
        apply_chat_template=is_chat,
        chat_template=None,
    )
    instances = tuple(made) if isinstance(made, list) else (made,)
    kinds = {each.request_type for each in instances}
    first = instances[0].args[0]
    if kinds == {"loglikelihood"}:
        return Asked(
            instances,
            first,
            Likelihoods(tuple((each.args[0], each.args[1]) for each in instances), _labels(task, doc, instances)),
        )
    if kinds == {"loglikelihood_rolling"}:
        return Asked(
            instances, first, Likelihoods(tuple((None, each.args[0]) for each in instances), ("(the text)",) * len(instances))
        )
    if kinds == {"generate_until"} and len(instances) == 1:
        return Asked(instances, first, _decoding(task.task_name, instances[0].args[1]))
    raise ConfigError(
        f"harness task '{task.task_name}' asks for {len(instances)} answers of the kinds {', '.join(sorted(kinds))} to one "
        "problem; task=lm_eval takes one completion, or any number of likelihoods"
    )


def outcomes(task: Any, doc: Any, instances: Sequence[Any], answer: Answer) -> Outcomes:
    """The harness' values for one problem, filter by filter, from its own filters and ``process_results``.

    Raises:
        DataError: The task's code fails on the answer.
    """
    responses: list[Any]
    if isinstance(answer, str):
        responses = [answer]
    elif instances[0].request_type == "loglikelihood_rolling":
        responses = [each.total for each in answer]
    else:
        responses = [(each.total, each.is_greedy) for each in answer]
    doc = copy.deepcopy(doc)  # a task's code may change it, and the next candidate is asked the same
    filled = []
    for instance, response in zip(instances, responses, strict=True):
        own = copy.copy(instance)
        # All repeats of a greedy answer are alike.
        own.doc, own.resps, own.filtered_resps = doc, [response] * (instance.repeats or 1), {}
        filled.append(own)
    try:
        for ensemble in task._filters:
            ensemble.apply(filled)
        filled.sort(key=lambda each: int(each.idx))
        return {
            name: dict(task.process_results(doc, [each.filtered_resps[name] for each in filled]))
            for name in filled[0].filtered_resps
        }
    except Exception as error:
        said = repr(answer if isinstance(answer, str) else "likelihoods")
        raise DataError(
            f"harness task '{task.task_name}' cannot score an answer to its problem {instances[0].doc_id}, {said[:80]} "
            f"({type(error).__name__}: {error}); mend its filters or process_results"
        ) from error


def question_of(task: Any, doc: Any) -> tuple[str, str]:
    """What a reader takes for the question, choices or text to be judged included, and for the answer."""
    text, target = task.doc_to_text(doc), task.doc_to_target(doc)
    choices = [str(each) for each in task.doc_to_choice(doc)] if task.config.doc_to_choice is not None else []
    if isinstance(text, int):  # the choices are contexts, and the target goes on from the right one
        return "\n".join([*choices, str(target)]), choices[text] if 0 <= text < len(choices) else str(text)
    right = target if isinstance(target, list) else [target]
    answer = ", ".join(choices[each] if isinstance(each, int) and 0 <= each < len(choices) else str(each) for each in right)
    asked_for = [] if task.OUTPUT_TYPE != "loglikelihood_rolling" else [answer]
    question = "\n".join(filter(str.strip, [str(text), *choices, *asked_for]))
    return question or json.dumps(doc, ensure_ascii=False, default=str), answer


def _labels(task: Any, doc: Any, instances: Sequence[Any]) -> tuple[str, ...]:
    if task.OUTPUT_TYPE != "multiple_choice":
        return ()
    choices = tuple(map(str, task.doc_to_choice(doc)))
    times, rest = divmod(len(instances), len(choices))
    return choices * times if not rest else ()  # acc_mutual_info asks for each choice twice, with and without the question


def _decoding(name: str, options: Mapping[str, Any]) -> Decoding:
    from lm_eval.models.utils import normalize_gen_kwargs

    unlike = {
        key: value
        for key, value in options.items()
        if key not in {"until", "max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"} | _WITHOUT_EFFECT
        and value not in _GREEDY.get(key, ())
    }
    if options.get("do_sample") is False:
        unlike.pop("temperature", None)  # as in the harness, which then takes it for 0
    if unlike:
        said = ", ".join(f"{key}: {value!r}" for key, value in unlike.items())
        raise ConfigError(
            f"harness task '{name}' has generation_kwargs that are not greedy decoding ({said}), and candidates are decoded "
            "greedily so that they can be compared; copy its YAML to a folder of your own, leave them out there, and name the "
            "folder with task.include_path"
        )
    known = normalize_gen_kwargs(dict(options))
    return Decoding(int(known["max_gen_toks"]), tuple(str(stop) for stop in known["until"] if stop))
