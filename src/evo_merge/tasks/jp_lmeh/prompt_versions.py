"""The prompts of the jp-stable harness, by task and ``<task version>-<prompt version>``, letter by letter.

The texts are those of https://github.com/Stability-AI/lm-evaluation-harness, branch jp-stable, ``lm_eval/tasks/ja`` (MIT,
copyright 2020 EleutherAI): 0.0 and 0.1 plain, 0.2 Fintan's, 0.3 Alpaca's, 0.4 and 0.5 rinna's with ``<NL>`` or line breaks, 0.6
Llama 2's.
"""

from dataclasses import replace

from evo_merge.tasks.jp_lmeh.prompts import PromptVersion

_ALPACA = "以下は、タスクを説明する指示と、文脈のある入力の組み合わせです。要求を適切に満たす応答を書きなさい。\n\n"
_LLAMA2 = "<s>[INST] <<SYS>>\nあなたは役立つアシスタントです。\n<</SYS>>\n\n"


def _alpaca(instruction: str, given: str, choices: tuple[str, ...] | None = None) -> PromptVersion:
    body = f"### 指示:\n{instruction}\n\n### 入力:\n{given}\n\n### 応答:\n"
    return PromptVersion(_ALPACA, body, choices=choices)


def _llama2(instruction: str, given: str, choices: tuple[str, ...] | None = None) -> PromptVersion:
    return PromptVersion(_LLAMA2, f"{instruction}\n\n{given} [/INST] ", " </s><s>[INST] ", choices=choices)


def _rinna(request: str, given: str, newline: str, choices: tuple[str, ...] | None = None) -> PromptVersion:
    """``request`` and ``given`` have plain line breaks."""
    return PromptVersion(
        f"ユーザー: {request}\nシステム: 分かりました。\n".replace("\n", newline),
        f"ユーザー: {given}\nシステム: ".replace("\n", newline),
        newline,
        newline,
        choices,
        stop=newline,
    )


_CHOOSE = "与えられた選択肢の中から、最適な答えを選んでください。"
_CHOOSE_OF_5 = "与えられた5つの選択肢の中から、最適な答えを選んでください。"
_LISTED = "出力は以下から選択してください：\n{choices_bulleted}"
_JCOMMONSENSEQA = {
    "1.1-0.1": PromptVersion(
        "[問題]に対する[答え]を[選択肢]の中から選んでください。\n\n",
        "[問題]:{question}\n[選択肢]:{choices_enclosed}\n[答え]:",
    ),
    # Solved examples end with the choice's number, and yet the harness compares the choices' texts.
    "1.1-0.2": PromptVersion(
        "質問と回答の選択肢を入力として受け取り、選択肢から回答を選択してください。"
        "なお、回答は選択肢の番号(例:0)でするものとします。 \n\n",
        "質問:{question}\n選択肢:{choices_numbered}\n回答:",
        target="{number}",
    ),
    "1.1-0.2.1": PromptVersion(f"{_CHOOSE} \n\n", "質問：{question}\n選択肢：\n{choices_bulleted}\n回答："),
    "1.1-0.3": _alpaca(f"{_CHOOSE}{_LISTED}", "{question}"),
    "1.1-0.4": _rinna(_CHOOSE, "質問：{question}\n選択肢：\n{choices_bulleted}", "<NL>"),
    "1.1-0.5": _rinna(_CHOOSE, "質問：{question}\n選択肢：\n{choices_bulleted}", "\n"),
    "1.1-0.6": _llama2(f"{_CHOOSE_OF_5}{_LISTED}", "質問：{question}"),
}

_RELATION = "与えられた前提と仮説の関係を回答してください。"
_RELATIONS = ("含意", "矛盾", "中立")
_OF_RELATIONS = "出力は以下から選択してください：\n" + "\n".join(_RELATIONS)
_PREMISE = "前提：{premise}\n仮説：{hypothesis}"
_JNLI = {
    "1.3-0.2": PromptVersion(
        "前提と仮説の関係を含意、矛盾、中立の中から回答してください。\n\n制約:\n"
        "- 前提から仮説が、論理的知識や常識的知識を用いて導出可能である場合は含意と出力\n"
        "- 前提と仮説が両立しえない場合は矛盾と出力\n- そのいずれでもない場合は中立と出力\n\n",
        "前提:{premise}\n仮説:{hypothesis}\n関係:",
        choices=_RELATIONS,
    ),
    "1.3-0.3": _alpaca(f"{_RELATION}\n\n{_OF_RELATIONS}", _PREMISE, _RELATIONS),
    "1.3-0.4": _rinna(f"{_RELATION}{_OF_RELATIONS}", _PREMISE, "<NL>", _RELATIONS),
    "1.3-0.5": _rinna(f"{_RELATION}{_OF_RELATIONS}", _PREMISE, "\n", _RELATIONS),
    "1.3-0.6": _llama2(f"{_RELATION}\n\n{_OF_RELATIONS}", _PREMISE, _RELATIONS),
}

_SENTIMENTS = ("ポジティブ", "ネガティブ")
_SENTIMENT = "製品レビューを、ポジティブまたはネガティブの感情クラスのいずれかに分類してください。"
_MARC_JA = {
    "1.1-0.2": PromptVersion(
        "製品レビューをnegativeかpositiveのいずれかのセンチメントに分類してください。出力は小文字化してください。 \n\n",
        "製品レビュー:{text}\nセンチメント:",
        choices=("positive", "negative"),
    ),
    "1.1-0.3": _alpaca(f"以下の{_SENTIMENT}", "{text}", _SENTIMENTS),
    "1.1-0.4": _rinna(f"与えられた{_SENTIMENT}", "{text}", "<NL>", _SENTIMENTS),
    "1.1-0.5": _rinna(f"与えられた{_SENTIMENT}", "{text}", "\n", _SENTIMENTS),
    "1.1-0.6": _llama2(f"以下の{_SENTIMENT}", "{text}", _SENTIMENTS),
}

_EXTRACT = "与えられた文脈から、質問に対する答えを抜き出してください。"
_EXTRACT_TITLED = "[題名]と[問題]から[質問]に対する[答え]を抜き出しなさい\n\n"
_PASSAGE = "文脈：{passage}\n質問：{question}"
_TITLED_PASSAGE = "文脈：{title}\n{passage}\n質問：{question}"
_IN_A_WORD = "一言で抽出してください。回答は名詞で答えてください。\n\n"
_FROM_PASSAGE = {
    "0.2": PromptVersion(f"質問に対する回答を文章から{_IN_A_WORD}", "文章:{passage}\n質問:{question}\n回答:"),
    "0.3": _alpaca(_EXTRACT, _PASSAGE),
    "0.4": _rinna(_EXTRACT, _PASSAGE, "<NL>"),
    "0.5": _rinna(_EXTRACT, _PASSAGE, "\n"),
    "0.6": _llama2(_EXTRACT, _PASSAGE),
}
_JSQUAD = {
    "1.1-0.1": PromptVersion(_EXTRACT_TITLED, "[題名]:{title}\n[問題]:{passage}\n[質問]:{question}\n[答え]:"),
    **{f"1.1-{name}": version for name, version in _FROM_PASSAGE.items()},
    "1.2-0.2": PromptVersion(
        f"質問に対する回答を題名と文章から{_IN_A_WORD}", "題名:{title}\n文章:{passage}\n質問:{question}\n回答:"
    ),
    "1.2-0.3": _alpaca(_EXTRACT, _TITLED_PASSAGE),
    "1.2-0.4": _rinna(_EXTRACT, _TITLED_PASSAGE, "<NL>"),
    "1.2-0.5": _rinna(_EXTRACT, _TITLED_PASSAGE, "\n"),
    "1.2-0.6": _llama2(_EXTRACT, _TITLED_PASSAGE),
}
_JAQKET_V2 = {
    "0.2-0.1": PromptVersion(_EXTRACT_TITLED, "{titled_passages}\n[質問]:{question}\n[答え]:"),
    **{f"0.2-{name}": version for name, version in _FROM_PASSAGE.items()},
}
# Not of the harness, whose questions come with passages: the same forms without them.
_ANSWER = "与えられた質問に一言で答えてください。回答は名詞で答えてください。"
_JAQKET_CLOSED_BOOK = {
    "closed-0.2": PromptVersion("質問に一言で答えてください。回答は名詞で答えてください。\n\n", "質問:{question}\n回答:"),
    "closed-0.3": _alpaca(_ANSWER, "質問：{question}"),
    "closed-0.4": _rinna(_ANSWER, "質問：{question}", "<NL>"),
    "closed-0.5": _rinna(_ANSWER, "質問：{question}", "\n"),
    "closed-0.6": _llama2(_ANSWER, "質問：{question}"),
}

_SUMMARISE = "与えられたニュース記事を要約してください。"
_ARTICLE = "ニュース記事:{text}"
_XLSUM_JA = {
    "1.0-0.0": PromptVersion(f"{_SUMMARISE}\n\n", f"{_ARTICLE}\n要約:"),
    "1.0-0.3": _alpaca(_SUMMARISE, _ARTICLE),
    "1.0-0.4": _rinna(_SUMMARISE, _ARTICLE, "<NL>"),
    "1.0-0.5": _rinna(_SUMMARISE, _ARTICLE, "\n"),
    "1.0-0.6": _llama2(_SUMMARISE, _ARTICLE),
}

_STEPS = "与えられた問題に対して、ステップごとに答えを導き出してください。"
# The harness's slips are kept: 0.5 has <NL> inside its question, and 0.4 stops at a line break.
_STEPS_RINNA = "ユーザー: 問題：{question}<NL>システム: ステップごとの答え："
_MGSM = {
    "1.0-0.0": PromptVersion("", "問題：{question}\nステップごとの答え："),
    "1.0-0.3": _alpaca(_STEPS, "{question}"),
    "1.0-0.4": replace(_rinna("与えられた問題をステップごとに解説してください。", "", "<NL>"), body=_STEPS_RINNA, stop="\n"),
    "1.0-0.5": replace(_rinna("与えられた問題をステップごとに解説してください。", "", "\n"), body=_STEPS_RINNA),
    "1.0-0.6": _llama2(_STEPS, "{question}"),
}

_GRAMMATICAL = "与えられた文が文法的であるかを回答してください。"
_YES_OR_NO = "出力は以下から選択してください：\nはい\nいいえ"
_NO_YES = (" いいえ", " はい")
_JCOLA = {
    "0.2-0.0": PromptVersion("", "{sentence}\n質問: この文は文法的ですか？\n答え:", choices=_NO_YES),
    "0.2-0.3": _alpaca(f"{_GRAMMATICAL}\n\n{_YES_OR_NO}", "{sentence}", _NO_YES),
    "0.2-0.4": _rinna(f"{_GRAMMATICAL}{_YES_OR_NO}", "{sentence}", "<NL>", _NO_YES),
    "0.2-0.5": _rinna(f"{_GRAMMATICAL}{_YES_OR_NO}", "{sentence}", "\n", _NO_YES),
    "0.2-0.6": _llama2(f"{_GRAMMATICAL}\n\n{_YES_OR_NO}", "{sentence}", _NO_YES),
}

PROMPTS: dict[str, dict[str, PromptVersion]] = {
    "jcommonsenseqa": _JCOMMONSENSEQA,
    "jnli": _JNLI,
    "marc_ja": _MARC_JA,
    "jsquad": _JSQUAD,
    "jaqket_v2": _JAQKET_V2,
    "jaqket_closed_book": _JAQKET_CLOSED_BOOK,
    "xlsum_ja": _XLSUM_JA,
    "xwinograd_ja": {"1.0": PromptVersion("", "", separator="")},
    "mgsm": _MGSM,
    "jcola": _JCOLA,
}
"""By task; of two task versions with the same prompt version the first is meant where only that is given."""
