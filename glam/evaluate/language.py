"""A model as evaluation asks it: texts in, log-likelihoods and texts out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from glam.data.tokenizer import END
from glam.evaluate.scoring import Score, Span, score
from glam.generate import Search, Settings, beam, generate
from glam.generate.text import prompt_of, text_of
from glam.loading import Loaded
from ir.errors import BadArgument


class Written(NamedTuple):
    """A text's log-likelihood, and how many tokens it has."""

    score: Score
    tokens: int


@dataclass
class Language:
    """A model, `batch` texts at a time; beam search has `beams` (1: greedy).

    A context that is longer than the model's training sequence keeps its end; `cut`
    counts how often that was needed.
    """

    model: Loaded
    batch: int = 16
    beams: int = 4
    watch: Callable[[int], None] = lambda done: None
    cut: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        for name in ("batch", "beams"):
            value = getattr(self, name)
            if value < 1:
                reason = f"{name}={value} must be a whole number of at least 1"
                raise BadArgument(reason=reason)

    def log_likelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Written]:
        """Of each continuation given its context; an empty one is a text's start."""
        spans = [self._span(*self.encode_pair(*pair)) for pair in pairs]
        config, params = self.model.config, self.model.params
        found = score(config, params, spans, self.batch, self.watch)
        return [
            Written(one, span.scored) for one, span in zip(found, spans, strict=True)
        ]

    def rolling(self, texts: Sequence[str]) -> list[Written]:
        """Of whole texts, in windows of the training sequence where they are longer."""
        windows: list[Span] = []
        counts: list[tuple[int, int]] = []
        for text in texts:
            ids = self.model.tokenizer.encode(text)
            made = list(rolling_windows(ids, self.model.config.sequence))
            windows += made
            counts.append((len(made), len(ids)))
        config, params = self.model.config, self.model.params
        scores = iter(score(config, params, windows, self.batch, self.watch))
        found = []
        for number, tokens in counts:
            own = [next(scores) for _ in range(number)]
            total = sum(one.log_likelihood for one in own)
            found.append(Written(Score(total, all(o.greedy for o in own)), tokens))
        return found

    def write(
        self, contexts: Sequence[str], until: Sequence[str], tokens: int
    ) -> list[str]:
        """What follows each context, up to one of `until` or `tokens` tokens."""
        texts: list[str] = []
        end = self._end(until)
        for first in range(0, len(contexts), self.batch):
            part = contexts[first : first + self.batch]
            prompts = [self._prompt(context, tokens) for context in part]
            if self.beams > 1:
                how = Search(tokens, self.beams, end=end)
                made = beam(self.model.config, self.model.params, prompts, how)
            else:
                plain = Settings(tokens, end=end)
                made = generate(self.model.config, self.model.params, prompts, plain)
            for prompt, one in zip(prompts, made, strict=True):
                text = text_of(self.model.tokenizer, prompt, one.tokens)
                texts.append(before(text, until))
            self.watch(len(part))
        return texts

    def encode_pair(
        self, context: str, continuation: str
    ) -> tuple[list[int], list[int]]:
        """Ids of both, </s> in front; they are encoded as the one text that they are.

        Where that joins both in a token, spaces that end the context are moved to the
        continuation's first word, and if that does not help each is encoded alone.
        """
        encode = self.model.tokenizer.encode
        kept = context.rstrip(" ")
        for first, second in (
            (context, continuation),
            (kept, context[len(kept) :] + continuation),
        ):
            ids, whole = encode(first), encode(first + second)
            if whole[: len(ids)] == ids:
                return [END, *ids], whole[len(ids) :]
        return [END, *encode(context)], encode(continuation)

    def _span(self, context: list[int], continuation: list[int]) -> Span:
        """The last of both that the model sees: a sequence, and its last target."""
        if not continuation:
            raise BadArgument(reason="an empty text has no log-likelihood: write one")
        most = self.model.config.sequence
        if len(continuation) > most:
            reason = (
                f"a continuation has {len(continuation)} tokens, and the model was "
                f"trained on sequences of {most}: shorten it, or make it a text to "
                "be predicted, which is scored in windows"
            )
            raise BadArgument(reason=reason)
        ids = context + continuation
        self.cut += len(ids) > most + 1
        return Span(ids[-(most + 1) :], len(continuation))

    def _prompt(self, context: str, tokens: int) -> list[int]:
        ids = prompt_of(self.model.tokenizer, context)
        most = max(self.model.config.sequence - tokens, 1)
        self.cut += len(ids) > most
        return ids[-most:]

    def _end(self, until: Sequence[str]) -> int:
        """The token that ends a text: that of `until`, if it is one text of one token.

        Then it ends beams too, and the best beam that ended wins.
        """
        if len(until) == 1:
            ids = self.model.tokenizer.encode(until[0])
            if len(ids) == 1:
                return ids[0]
        return END


def rolling_windows(ids: Sequence[int], most: int) -> Iterator[Span]:
    """Spans of at most `most` tokens and one before them, each token scored once.

    The first one begins with </s>. The last one is as long as the others, so that its
    tokens see as much as they can.
    """
    whole = [END, *ids]
    for first in range(0, len(ids), most):
        last = min(first + most, len(ids))
        start = 0 if first == 0 else last - most
        yield Span(whole[start : last + 1], last - first)


def before(text: str, until: Sequence[str]) -> str:
    """The text before the first of `until`."""
    places = [place for stop in until if stop and (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text
