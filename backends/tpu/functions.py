"""A function of the final module, with grouped matmuls run by the TPU's kernels."""

from collections.abc import Mapping, Sequence

from backends.block_text import MapTexts, tuple_text, value_name
from backends.functions import Definitions, FunctionText, map_texts
from backends.scalar_text import Text, dtype_text
from backends.tpu.combined import combined_dtype, rounds_combined
from backends.tpu.operands import rows_operands, sums_operands
from backends.tpu.part_text import PartText, Sources
from backends.tpu.piece import Piece, take_apart, width
from backends.tpu.router_text import (
    RouterText,
    made_text,
    results_by_part,
    routed_text,
    sum_turned,
)
from backends.tpu.schedule import blocks_of
from backends.tpu.storage import compute_dtype, leaves_as_words, stored_dtype
from ir import mlir
from ir.mlir import Value
from ir.op import attributes_of, operand_types, result_types
from ir.types import from_mlir


class TpuFunction(FunctionText):
    """Writes one function of the module."""

    def __init__(self, function: mlir.OpView, definitions: Definitions) -> None:
        super().__init__(function, definitions)
        self.compute = compute_dtype(function.operation.parent)
        self.calls: dict[str, str] = {}
        self.texts: dict[Value, str] = {}

    def op(self, op: mlir.OpView, now: int) -> None:
        if op.operation.name == "kernel.router":
            self.router(op, now)
        elif rounds_combined(op):
            result = op.operation.results[0]
            self.settle(op, result, self.values[op.operation.operands[0]], now)
        else:
            super().op(op, now)

    def router(self, op: mlir.OpView, now: int) -> None:
        """A call of `route`, and names for what it made."""
        told = attributes_of(op)
        name = f"{mlir.string(self.function, 'sym_name')}_router"
        program = self.definitions.add(name, RouterText(op, self.maps_of).function())
        operands = [self.values[v].text for v in op.operation.operands]
        schedule = told["schedule"]
        blocks = (schedule["tile_tokens"], schedule["piece"])
        made = self.names.give("routed", 1 << 30, now)
        self.lines.append(
            f"{made} = route({program}, {routed_text(op, operands)}, {made_text(op)}, "
            f"groups={told['groups']}, runs={schedule['runs']}, blocks={blocks})"
        )
        for part, found in results_by_part(op).items():
            names = [self.named(op, value, now) for value in found]
            self.lines.append(f"{tuple_text(names)} = {made}.{part}")
            for value, text in zip(found, names, strict=True):
                turned = part == "weights" and sum_turned(op, from_mlir(value.type))
                self.values[value] = Text(f"{text}.T" if turned else text)

    def named(self, op: mlir.OpView, result: Value, now: int) -> str:
        """A name for a router's result, after the op that yields it."""
        *_, last = op.operation.regions[0].blocks[0].operations
        position = list(op.operation.results).index(result)
        made = mlir.producer(last.operation.operands[position])
        wanted = value_name(made.opview) if made is not None else "kept"
        return self.names.give(wanted, self.last_use(result), now)

    def grouped(self, op: mlir.OpView, operands: list[Text], now: int) -> None:
        piece = take_apart(op)
        plan = operands[0].text
        self.texts = {
            argument: text.text
            for argument, text in zip(piece.arguments, operands[1:], strict=True)
        }
        write = {"rows": self.rows, "sums": self.sums, "maps": self.maps}[piece.kind]
        write(op, piece, plan, now)

    def expression(self, op: mlir.OpView, operands: Sequence[Text]) -> Text:
        """An op outside block programs; products of float32 are really of float32."""
        if op.operation.name == "kernel.combine":
            return self.combined(op, operands)
        if op.operation.name == "kernel.collect":
            plan, rows = (operand.text for operand in operands)
            return Text(f"numbers_of_choices({rows}, {plan})")
        text = super().expression(op, operands)
        single = all(kind.dtype == "float32" for kind in operand_types(op))
        if op.operation.name != "stablehlo.dot_general" or not single:
            return text
        head = text.text.removesuffix(")")
        return Text(f"{head}, precision=lax.Precision.HIGHEST)")

    def combined(self, op: mlir.OpView, operands: Sequence[Text]) -> Text:
        """Rows back to tokens: by the kernel where the op has a schedule for it."""
        plan, rows, *gates = (operand.text for operand in operands)
        if "schedule" not in mlir.attributes(op):
            return super().expression(op, operands)
        dtype = f"jnp.{dtype_text(combined_dtype(op))}"
        return Text(f"combine_rows({', '.join([rows, plan, dtype, *gates])})")

    def fetched(self, piece: Piece, argument: Value, plan: str, now: int) -> str:
        """The row space that an argument becomes before a kernel."""
        text = self.texts[argument]
        kind = piece.arguments[argument][0]
        if kind not in ("token", "choice"):
            return text
        function = "fetch_tokens" if kind == "token" else "fetch_choices"
        return self.once(text, "rows", f"{function}({text}, {plan})", now)

    def as_words(self, argument: Value, now: int) -> str:
        """Tokens in the form that a kernel can fetch rows of."""
        text = self.texts[argument]
        return self.once(text, "words", f"token_words({text})", now)

    def once(self, text: str, kind: str, call: str, now: int) -> str:
        """The name of a call's result; a function makes each call once."""
        if call not in self.calls:
            name = self.names.give(f"{text.split('.')[0]}_{kind}", 1 << 30, now)
            self.lines.append(f"{name} = {call}")
            self.calls[call] = name
        return self.calls[call]

    def group(self, piece: Piece, values: Sequence[Value], plan: str, now: int) -> str:
        """A tuple of row spaces, weights or biases; "" for none."""
        texts = [self.fetched(piece, v, plan, now) for v in values]
        return tuple_text(texts) if texts else ""

    def word_group(self, values: Sequence[Value], now: int) -> str:
        texts = [self.as_words(v, now) for v in values]
        return tuple_text(texts) if texts else ""

    def rows(self, op: mlir.OpView, piece: Piece, plan: str, now: int) -> None:
        """A call of `grouped_rows`."""
        schedule = attributes_of(op)["schedule"]
        read = rows_operands(piece, schedule["fetches"])
        numbers = ("numbers", read.numbers)
        sources = (("inner", (*read.tokens, *read.inner)), numbers)
        before = self.part(op, sources, piece.lefts)
        after = self.part(
            op,
            (
                ("sums", (piece.joined,) if piece.joined else piece.sums),
                ("columns", read.columns),
                numbers,
                ("biases", read.biases),
            ),
            piece.results,
            leaves_sums=True,
        )
        programs = {
            "prologue": self.program(before, "prologue"),
            "epilogue": self.program(after, "epilogue"),
        }
        held = read._asdict() | {"weights": piece.rights}
        tokens = held.pop("tokens")
        rows = {n: self.group(piece, held[n], plan, now) for n in held}
        groups = {"tokens": self.word_group(tokens, now), **rows}
        call = {
            "transposed": tuple_text([str(t) for t in piece.transposed]),
            "results": tuple_text(self.result_texts(op)),
            "blocks": str(blocks_of(schedule)),
            **programs,
            "rows_stay": "True" if schedule["rows_stay"] else "",
            "adds": "True" if piece.joined is not None else "",
        }
        names = self.name_results(op, "rows", now)
        self.lines.append(
            f"{tuple_text(names)} = grouped_rows("
            f"{plan}, Fetched({_given(groups)}), {_given(call)})"
        )

    def program(self, part: PartText, title: str, single: bool = False) -> str:
        """The name of a part's function; "" for the one that the kernel has anyway."""
        if part.is_as_read():
            return ""
        name = f"{mlir.string(self.function, 'sym_name')}_{title}"
        return self.definitions.add(name, part.function(single))

    def result_texts(self, op: mlir.OpView) -> list[str]:
        """(width, dtype) of each result, as it is stored."""
        texts = []
        for value, kind in zip(op.operation.results, result_types(op), strict=True):
            words = leaves_as_words(value, self.compute)
            dtype = "uint32" if words else stored_dtype(kind, self.compute)
            texts.append(f"({width(value)}, jnp.{dtype_text(dtype)})")
        return texts

    def part(
        self,
        op: mlir.OpView,
        sources: Sources,
        wanted: Sequence[Value],
        leaves_sums: bool = False,
    ) -> PartText:
        maps = self.maps_of
        return PartText(op, maps, sources, wanted, self.compute, leaves_sums)

    def sums(self, op: mlir.OpView, piece: Piece, plan: str, now: int) -> None:
        """A call of `grouped_sums`."""
        schedule = attributes_of(op)["schedule"]
        read = sums_operands(piece, schedule["fetches"])
        sides = (
            ("left", piece.lefts, read.left_tokens, read.left),
            ("right", piece.rights, read.right_tokens, read.right),
        )
        programs, groups = {}, {}
        for title, wanted, tokens, others in sides:
            sources = (("rows", (*tokens, *others)), ("numbers", read.numbers))
            part = self.part(op, sources, wanted)
            programs[title] = self.program(part, title, single=True)
            groups[f"{title}_tokens"] = self.word_group(tokens, now)
            groups[title] = self.group(piece, others, plan, now)
        groups["numbers"] = self.group(piece, read.numbers, plan, now)
        (kind,) = result_types(op)
        call = {
            "widths": str(kind.shape[1:]),
            "dtype": f"jnp.{dtype_text(kind.dtype)}",
            "blocks": str(blocks_of(schedule)),
            "window": str(schedule["window_rows"]),
            **programs,
        }
        (result,) = self.name_results(op, "d_weights", now)
        self.lines.append(
            f"{result} = grouped_sums({plan}, Summed({_given(groups)}), {_given(call)})"
        )

    def maps(self, op: mlir.OpView, piece: Piece, plan: str, now: int) -> None:
        """Elementwise ops alone: plain XLA code on whole row spaces."""
        held = piece.read_by(piece.results)
        part = self.part(op, (("rows", held),), piece.results)
        name = f"{mlir.string(self.function, 'sym_name')}_rows"
        function = self.definitions.add(name, part.function())
        names = self.name_results(op, "rows", now)
        call = f"{function}({self.group(piece, held, plan, now)})"
        self.lines.append(f"{tuple_text(names)} = {call}")

    @property
    def maps_of(self) -> MapTexts:
        return lambda op, texts: map_texts(op, texts, self.definitions)

    def name_results(self, op: mlir.OpView, wanted: str, now: int) -> list[str]:
        names = []
        for result in op.operation.results:
            name = self.names.give(wanted, self.last_use(result), now)
            self.values[result] = Text(name)
            names.append(name)
        return names


def _given(arguments: Mapping[str, str]) -> str:
    """Arguments by name, without those that are left out."""
    return ", ".join(f"{name}={text}" for name, text in arguments.items() if text)
