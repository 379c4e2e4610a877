"""GLaM for EleutherAI's lm-eval.

language = Language(load_model(Path("runs/tiny"), print))
lm_eval.simple_evaluate(model=Harness(language), tasks=["lambada_openai"])
"""

from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from glam.evaluate.language import Language
from ir.errors import BadArgument

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

TOKENS = 256  # of a generation whose task does not say
_KNOWN = frozenset(
    {
        "do_sample",
        "early_stopping",
        "max_gen_toks",
        "max_new_tokens",
        "max_tokens",
        "num_beams",
        "temperature",
        "until",
    }
)


class Harness(LM):
    """A language as lm-eval's `LM`: its three requests, in lists.

    Generation is by beam search, `language.beams` wide unless the task says. A task
    that draws at random is refused (`BadArgument`), and so is an option of generation
    that we do not have: a figure must not rest on another method than its task names.
    """

    def __init__(self, language: Language) -> None:
        super().__init__()
        self._language = language

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval keys its request caches by."""
        return self._language.model.tokenizer.fingerprint

    def loglikelihood(self, requests: "list[Instance]") -> list[tuple[float, bool]]:
        """Sum of log-probabilities of each continuation, and whether it is greedy's."""
        pairs = [request.args for request in requests]
        found = [one.score for one in self._language.log_likelihood(pairs)]
        return self._kept("loglikelihood", requests, [tuple(one) for one in found])

    def loglikelihood_rolling(self, requests: "list[Instance]") -> list[float]:
        """Sum of log-probabilities of each whole text."""
        texts = [request.args[0] for request in requests]
        found = [one.score.log_likelihood for one in self._language.rolling(texts)]
        return self._kept("loglikelihood_rolling", requests, found)

    def generate_until(self, requests: "list[Instance]") -> list[str]:
        """What follows each context, up to the first stop."""
        made: dict[int, str] = {}
        groups: dict[Any, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(self._how(request.args[1]), []).append(number)
        for (until, tokens, beams), members in groups.items():
            language = Language(
                self._language.model, self._language.batch, beams, self._language.watch
            )
            contexts = [requests[i].args[0] for i in members]
            texts = language.write(contexts, until, tokens)
            made.update(zip(members, texts, strict=True))
        found = [made[i] for i in range(len(requests))]
        return self._kept("generate_until", requests, found)

    def _how(self, asked: dict[str, Any]) -> tuple[tuple[str, ...], int, int]:
        """Stops, most tokens and beams of a request's arguments."""
        unknown = sorted(asked.keys() - _KNOWN)
        if unknown:
            reason = (
                f"the task asks for '{unknown[0]}' in generation_kwargs; known are "
                f"{', '.join(sorted(_KNOWN))}"
            )
            raise BadArgument(reason=reason)
        if asked.get("do_sample") or asked.get("temperature", 0) > 0:
            reason = (
                "the task draws at random (do_sample or temperature in "
                "generation_kwargs), and evaluation is by beam search: set both to 0"
            )
            raise BadArgument(reason=reason)
        until = asked.get("until") or ()
        stops = (until,) if isinstance(until, str) else tuple(until)
        lengths = ("max_gen_toks", "max_new_tokens", "max_tokens")
        tokens = next((asked[name] for name in lengths if name in asked), TOKENS)
        return stops, int(tokens), int(asked.get("num_beams", self._language.beams))

    def _kept(
        self, kind: str, requests: "list[Instance]", found: list[Any]
    ) -> list[Any]:
        """The answers, after lm-eval's cache has taken them."""
        for request, one in zip(requests, found, strict=True):
            self.cache_hook.add_partial(kind, request.args, one)
        return found
