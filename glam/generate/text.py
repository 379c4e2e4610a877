"""From text to prompts, and from tokens to text as they come."""

from collections.abc import Sequence
from unicodedata import category

from glam.data.tokenizer import Tokenizer
from glam.generate.settings import END

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def prompt_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """A prompt's ids: </s> first, as every document of the training data begins."""
    return [END, *tokenizer.encode(text)]


class Continuation:
    """The text after a prompt, told in whole characters as its tokens come.

    It is decoded together with the prompt: a subword at the start of a text would lose
    its space.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(prompt)
        self._before = len(tokenizer.decode(self._ids))
        self._told = 0

    def add(self, token: int) -> str:
        """What can be told once this token is there; a half character waits."""
        self._ids.append(token)
        return self._tell(self.text.rstrip(_UNFINISHED))

    def close(self) -> str:
        """The rest, which no further token can finish."""
        return self._tell(self.text)

    @property
    def text(self) -> str:
        """All of it so far."""
        return self._tokenizer.decode(self._ids)[self._before :]

    def _tell(self, text: str) -> str:
        new = text[self._told :]
        self._told = max(self._told, len(text))
        return new


def text_of(tokenizer: Tokenizer, prompt: Sequence[int], tokens: Sequence[int]) -> str:
    """The text of a completion of a prompt."""
    ids = list(prompt)
    return tokenizer.decode([*ids, *tokens])[len(tokenizer.decode(ids)) :]


def visible(text: str) -> str:
    """The text for a terminal: what would steer it becomes U+FFFD."""
    return "".join(_UNFINISHED if _steers(c) else c for c in text)


def _steers(character: str) -> bool:
    return category(character) == "Cc" and character not in "\n\t"
