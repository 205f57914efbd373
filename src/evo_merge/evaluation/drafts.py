"""What an answer will probably be: the answers that neighbouring candidates gave to the same problem.

The next tokens of a draft are checked in one forward pass, which costs little more than one token's; those that greedy decoding
would have chosen are kept (speculative decoding, Leviathan et al. 2023, https://arxiv.org/abs/2211.17192, with a look-up in
place of a small model, as in Saxena's prompt lookup, https://github.com/apoorvumang/prompt-lookup-decoding).
"""

from collections.abc import Sequence

_NGRAM = 2  # tokens that must agree before a draft is joined again
_FIRST, _LEAST, _MOST = 8, 2, 16  # tokens proposed at once: at the start, after a miss, after many hits


class Follower:
    """Proposes the next tokens of one answer from drafts of it.

    While the answer agrees with a draft, it is followed, and more is proposed with every proposal that held. After a
    difference the answer's last two tokens are looked for in all drafts, the nearest candidate's first, there the place nearest
    to where the answer left it; where they are nowhere, one other token may have taken the place of the draft's.
    """

    def __init__(self, drafts: Sequence[Sequence[int]]) -> None:
        """Drafts as token ids, the most trusted first."""
        self._drafts = [tuple(draft) for draft in drafts if draft]
        self._places: list[dict[tuple[int, ...], list[int]]] = []
        for draft in self._drafts:
            places: dict[tuple[int, ...], list[int]] = {}
            for end in range(_NGRAM, len(draft) + 1):
                places.setdefault(draft[end - _NGRAM : end], []).append(end)
            self._places.append(places)
        self._draft, self._place = 0, 0  # the answer's next token is expected there
        self._width = _FIRST
        self._last: tuple[int, ...] = ()

    def propose(self, most: int) -> list[int]:
        """The next tokens, at most so many; none where no draft says."""
        if not self._drafts:
            return []
        return list(self._drafts[self._draft][self._place : self._place + min(self._width, most)])

    def take(self, tokens: Sequence[int], n_proposed: int) -> None:
        """Follow the answer's next tokens: those of the last proposal that held, and one more."""
        if not self._drafts:
            return
        if n_proposed:
            held = len(tokens) > n_proposed
            self._width = min(2 * self._width, _MOST) if held else max(_LEAST, min(self._width, 2 * (len(tokens) - 1)))
        for token in tokens:
            self._last = (*self._last, token)[-_NGRAM:]
            draft = self._drafts[self._draft]
            if self._place < len(draft) and draft[self._place] == token:
                self._place += 1
            else:
                self._rejoin()

    def _rejoin(self) -> None:
        for draft, places in enumerate(self._places):
            if found := places.get(self._last):
                self._draft, self._place = draft, min(found, key=lambda place: abs(place - self._place - 1))
                return
        self._place += 1
        self._width = _LEAST
