"""Programs to be compared: a layer of ours, and the usual pipeline with fair tiles.

The pipeline's tiles are chosen as its users choose them: of all that fit in the memory
that a kernel may take, a model of time ranks the best few, and the simulator, which
also times both sides, decides between those.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.chips import CHIPS
from backends.tpu.profile.dump import Dump
from backends.tpu.profile.module import BUNDLES, profile_module
from backends.tpu.profile.routing import Routing
from backends.tpu.profile.store import kept_dump
from bench.ahead import Shape
from bench.traffic import Layer, layer_of
from bench.usual import Tile, Tiles
from moegen.compiler import compile
from moegen.layers import find_layer
from moegen.plain import arrays, whole

_HERE = Path(__file__).parent
_KERNEL_BYTES = 15 * 2**20  # of the 16 MiB that a kernel gets unless it asks for more
_CUTS = (128, 256, 512, 768, 1024, 2048)
_TRIED = 3
_COMPILE_SECONDS = 1800.0  # the largest training steps, on a busy machine
_STEP_SECONDS = 0.35e-6
_SHORT = {"bfloat16": "bf16", "float32": "f32", "bool": "pred", "int32": "s32"}
_PEER = """from bench.usual import Sizes, Tiles, {layer}, training

RUN = {layer}(Sizes({tokens}, {experts}, {k}), {tiles})


def whole_forward(*arguments):
    return RUN(*arguments)


whole_training = training(RUN)
"""
_KERNEL = """from bench.usual import gradient, product


def kernel(left, right, sizes):
    return {call}
"""


@dataclass(frozen=True)
class Program:
    """A file with `whole_forward` and `whole_training`, and their arguments."""

    file: Path
    args: tuple[str, ...]
    context: str = ""


@dataclass(frozen=True)
class Setting:
    """Where dumps are kept, where files are written, and how rows are routed."""

    cache: Path
    folder: Path
    routing: Routing

    def dump(self, program: Program, function: str, chip: str) -> tuple[Dump, str]:
        """The dump of a program for `tpu-v5e` and others, and its key."""
        name = chip.removeprefix("tpu-")
        return kept_dump(
            self.cache,
            program.file,
            function,
            program.args,
            name,
            self.routing,
            megacore=name == "v4",
            seconds=_COMPILE_SECONDS,
            context=program.context,
        )


def ours(shape: Shape, chip: str, setting: Setting) -> Program:
    """The emitted module at a shape, in bfloat16."""
    layer = find_layer(shape.layer)
    op = compile(layer, chip, "bfloat16", setting.folder, **sizes_of(shape))
    made = whole(op)
    path = made.write(setting.folder, f"ours_{_slug(shape.name)}_{chip}")
    arguments = tuple(_argument(*held) for held in arrays(op))
    return Program(path, arguments, "\0".join(made.beside.values()))


def sizes_of(shape: Shape) -> dict[str, Any]:
    """A shape's sizes; no side drops tokens."""
    if shape.layer != "glam":
        return shape.sizes
    kept = {n: v for n, v in shape.sizes.items() if n != "capacity_factor"}
    return kept | {"dropless": True}


def usual(shape: Shape, chip: str, setting: Setting, training: bool) -> Program:
    """The usual pipeline at a shape, with the best tiles that were tried.

    Without `training` no tiles are sought for the gradients.
    """
    sizes = layer_of(shape)
    up, down = (
        best_tiles(sizes, chip, setting, turned, training) for turned in (False, True)
    )
    shared = shape.layer == "deepseek"
    text = _PEER.format(
        layer="shared_layer" if shared else "softmax_layer",
        tokens=sizes.tokens,
        experts=sizes.experts,
        k=sizes.k,
        tiles=(up, down),
    )
    path = setting.folder / f"usual_{_slug(shape.name)}_{chip}_{training}.py"
    path.write_text(text, encoding="utf-8")
    model, hidden, experts = sizes.model, sizes.hidden, sizes.experts
    into = _argument("bfloat16", (experts, model, hidden))
    out = _argument("bfloat16", (experts, hidden, model))
    args = [
        _argument("bfloat16", (sizes.tokens, model)),
        _argument("float32", (model, experts)),
        *([_argument("float32", (experts,))] if shared else []),
        *[into] * sizes.gates,
        out,
    ]
    if shared:
        wide = int(shape.sizes["shared"])
        args += [_argument("bfloat16", (model, wide))] * 2
        args += [_argument("bfloat16", (wide, model))]
    return Program(path, tuple(args), _context())


def best_tiles(
    sizes: Layer, chip: str, setting: Setting, down: bool, training: bool
) -> Tiles:
    """Of the up or the down product; a gradient for rows is the other's product."""
    inner, outer = sizes.model, sizes.hidden
    if down:
        inner, outer = outer, inner
    forward = _best(sizes, inner, outer, "product", chip, setting)
    if not training:
        return Tiles(forward, forward, forward)
    rows = _best(sizes, outer, inner, "product", chip, setting)
    weights = _best(sizes, inner, outer, "gradient", chip, setting)
    return Tiles(forward, rows, weights)


def _best(
    sizes: Layer, inner: int, outer: int, kind: str, chip: str, setting: Setting
) -> Tile:
    ranked = sorted(
        candidates(sizes.rows, inner, outer),
        key=lambda tile: modelled_seconds(sizes, inner, outer, kind, tile, chip),
    )
    return min(
        ranked[:_TRIED],
        key=lambda tile: _kernel_seconds(
            sizes, inner, outer, kind, tile, chip, setting
        ),
    )


def candidates(rows: int, inner: int, outer: int) -> Iterator[Tile]:
    """Tiles that cut all three sizes evenly and fit in a kernel's memory."""
    for tm in _CUTS:
        for tk in _cuts(inner):
            for tn in _cuts(outer):
                held = 2 * (tm * tk + tk * tn + tm * tn) * 2 + tm * tn * 4
                gradient = 2 * (tm * tk + tm * tn + tk * tn) * 2 + tk * tn * 4
                if rows % tm == 0 and max(held, gradient) <= _KERNEL_BYTES:
                    yield tm, tk, tn


def _cuts(width: int) -> list[int]:
    found = [cut for cut in _CUTS if width % cut == 0]
    return found if found else [width]


def modelled_seconds(
    sizes: Layer, inner: int, outer: int, kind: str, tile: Tile, chip: str
) -> float:
    """The longer of products and traffic, and every step of the grid.

    A tile of rows that two experts share is visited by both.
    """
    tm, tk, tn = tile
    visits = sizes.rows // tm + sizes.experts - 1
    firsts, seconds = inner // tk, outer // tn
    flops = 2 * visits * tm * inner * outer
    if kind == "gradient":
        moved = visits * tm * (inner * seconds + outer * firsts)
        moved += sizes.experts * inner * outer
    else:
        blocks = visits if firsts > 1 else min(sizes.experts, visits)
        moved = visits * tm * (inner * seconds + outer) + blocks * inner * outer
    found = CHIPS[chip]
    peak, bandwidth = found.bf16_flops.value, found.hbm_bandwidth.value
    assert peak is not None
    assert bandwidth is not None
    steps = visits * firsts * seconds
    return max(flops / peak, 2 * moved / bandwidth) + steps * _STEP_SECONDS


def _kernel_seconds(
    sizes: Layer,
    inner: int,
    outer: int,
    kind: str,
    tile: Tile,
    chip: str,
    setting: Setting,
) -> float:
    """A kernel alone, simulated; infinite where the compiler refuses it."""
    from ir.errors import DumpFailed

    rows = _argument("bfloat16", (sizes.rows, inner))
    call = f"product(left, right, sizes, {tile}, False)"
    other = _argument("bfloat16", (sizes.experts, inner, outer))
    if kind == "gradient":
        call = f"gradient(left, right, sizes, {tile})"
        other = _argument("bfloat16", (sizes.rows, outer))
    cut = "x".join(map(str, tile))
    path = setting.folder / f"{kind}_{inner}_{outer}_{cut}.py"
    path.write_text(_KERNEL.format(call=call), encoding="utf-8")
    args = (rows, other, _argument("int32", (sizes.experts,)))
    program = Program(path, args, _context())
    try:
        dump, _ = setting.dump(program, "kernel", chip)
    except DumpFailed:
        return float("inf")
    kernels = list(profile_module(dump).kernels())
    if any(kernel.how != BUNDLES for kernel in kernels):
        return float("inf")
    return sum(kernel.cycles for kernel in kernels) / 1e9


def _context() -> str:
    return (_HERE / "usual.py").read_text(encoding="utf-8")


def _argument(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{_SHORT.get(dtype, dtype)}[{','.join(map(str, shape))}]"


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
