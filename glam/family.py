"""The GLaM family: Table 4 of Du et al. 2021, and how its parameters are counted.

No single convention reproduces every printed number, so computed and printed numbers
stand side by side and the formula is bent to no row.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ir.errors import BadArgument, nearest

VOCABULARY = 32_000
# The largest model's count needs the vocabulary of the paper's tokenizer.
LARGE_VOCABULARY = 256_000

# Tokens of a training sequence.
SEQUENCE = 1024

RELATIVE_BUCKETS = 32
ACTIVE_EXPERTS = 2


@dataclass(frozen=True)
class Model:
    """One row of Table 4; `experts` is None for a dense model."""

    name: str
    printed_total: str
    printed_activated: str
    layers: int
    model: int
    hidden: int
    heads: int
    head: int
    experts: int | None = None
    vocabulary: int = VOCABULARY

    @property
    def kind(self) -> str:
        return "dense" if self.experts is None else "MoE"


@dataclass(frozen=True)
class Count:
    """Parameters by part; `total` counts all experts, `activated` those of a token."""

    attention: int
    dense: int
    experts: int
    active_experts: int
    router: int
    embedding: int
    norms: int
    relative_bias: int

    @property
    def shared(self) -> int:
        """What every token uses."""
        return (
            self.attention
            + self.dense
            + self.router
            + self.embedding
            + self.norms
            + self.relative_bias
        )

    @property
    def total(self) -> int:
        return self.shared + self.experts

    @property
    def activated(self) -> int:
        return self.shared + self.active_experts


def count(model: Model) -> Count:
    """Count a model: tied embedding, no biases, GEGLU dense layers, plain experts.

    Every other layer of a mixture-of-experts model has experts in place of its dense
    feed-forward network.
    """
    experts = model.experts or 0
    moe_layers = model.layers // 2 if experts else 0
    matrix = model.model * model.hidden
    return Count(
        attention=model.layers * 4 * model.model * model.heads * model.head,
        dense=(model.layers - moe_layers) * 3 * matrix,
        experts=moe_layers * experts * 2 * matrix,
        active_experts=moe_layers * ACTIVE_EXPERTS * 2 * matrix,
        router=moe_layers * model.model * experts,
        embedding=model.vocabulary * model.model,
        norms=(2 * model.layers + 1) * model.model,
        relative_bias=model.layers * model.heads * RELATIVE_BUCKETS,
    )


def forward_flops(model: Model, sequence: int = SEQUENCE) -> float:
    """FLOPs a token of the forward pass, in sequences of that many tokens.

    2 for each weight that a token is multiplied with, the embedding once, as the output
    layer; and attention: 4 heads d_head for each of the (sequence + 1) / 2 tokens that
    a token sees on average, in each layer. The paper's 180 GFLOP for its largest model
    stand beside 2 * activated = 193.
    """
    made = count(model)
    multiplied = made.activated - made.norms - made.relative_bias
    seen = (sequence + 1) / 2
    return 2 * multiplied + 4 * model.layers * model.heads * model.head * seen


def weight_bytes(model: Model, dtype: str = "float32") -> int:
    """Bytes of all weights; routers stay float32 where the others are bfloat16."""
    made = count(model)
    width = {"float32": 4, "bfloat16": 2}[dtype]
    return width * (made.total - made.router) + 4 * made.router


_ALL = (
    Model("0.1B", "130M", "130M", 12, 768, 3072, 12, 64),
    Model("0.1B/64E", "1.9B", "145M", 12, 768, 3072, 12, 64, 64),
    Model("1.7B", "1.7B", "1.700B", 24, 2048, 8192, 16, 128),
    Model("1.7B/32E", "20B", "1.878B", 24, 2048, 8192, 16, 128, 32),
    Model("1.7B/64E", "27B", "1.879B", 24, 2048, 8192, 16, 128, 64),
    Model("1.7B/128E", "53B", "1.881B", 24, 2048, 8192, 16, 128, 128),
    Model("1.7B/256E", "105B", "1.886B", 24, 2048, 8192, 16, 128, 256),
    Model("8B", "8.7B", "8.7B", 32, 4096, 16384, 32, 128),
    Model("8B/64E", "143B", "9.8B", 32, 4096, 16384, 32, 128, 64),
    Model("137B", "137B", "137B", 64, 8192, 65536, 128, 128),
    Model("64B/64E", "1.2T", "96.6B", 64, 8192, 32768, 128, 128, 64, LARGE_VOCABULARY),
)

MODELS: Mapping[str, Model] = {model.name: model for model in _ALL}


def find_model(name: str) -> Model:
    """The model of that name, in any case; raises `BadArgument` with the nearest."""
    known = {model.lower(): model for model in MODELS}
    found = known.get(name.lower())
    if found is None:
        close = nearest(name, list(MODELS))
        listed = ", ".join(MODELS)
        reason = f"there is no model '{name}'; the models are {listed}{close}"
        raise BadArgument(reason=reason)
    return MODELS[found]
