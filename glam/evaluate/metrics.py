"""How a written answer is judged: exact match and F1 (Rajpurkar et al. 2016)."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def plain(text: str) -> str:
    """A text without case, punctuation and articles, its words one space apart."""
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(written: str, answers: Sequence[str], normalise: bool) -> float:
    """1 if the text is one of the answers, else 0."""
    compared = plain if normalise else str.strip
    return float(compared(written) in {compared(answer) for answer in answers})


def f1(written: str, answers: Sequence[str], normalise: bool) -> float:
    """The best answer's harmonic mean of precision and recall over words."""
    compared: Callable[[str], str] = plain if normalise else str.strip
    mine = compared(written).split()
    return max(_overlap(mine, compared(answer).split()) for answer in answers)


def _overlap(mine: list[str], right: list[str]) -> float:
    if not mine or not right:
        return float(mine == right)
    shared = sum((Counter(mine) & Counter(right)).values())
    return 2 * shared / (len(mine) + len(right))
