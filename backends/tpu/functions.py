"""A function of the final module, with grouped matmuls run by the TPU's kernels."""

from collections.abc import Sequence

from backends.block_text import MapTexts, tuple_text
from backends.functions import Definitions, FunctionText, map_texts
from backends.scalar_text import Text, dtype_text
from backends.tpu.part_text import PartText, Sources
from backends.tpu.piece import Piece, take_apart, width
from backends.tpu.schedule import LANES
from backends.tpu.storage import compute_dtype, is_combined, stored_dtype
from ir import mlir
from ir.mlir import Value
from ir.op import attributes_of, operand_types, result_types


class TpuFunction(FunctionText):
    """Writes one function of the module."""

    def __init__(self, function: mlir.OpView, definitions: Definitions) -> None:
        super().__init__(function, definitions)
        self.compute = compute_dtype(function.operation.parent)
        self.calls: dict[str, str] = {}
        self.texts: dict[Value, str] = {}
        self.words: dict[Value, int] = {}  # packed row spaces, and their blocks

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
        text = super().expression(op, operands)
        single = all(kind.dtype == "float32" for kind in operand_types(op))
        if op.operation.name != "stablehlo.dot_general" or not single:
            return text
        head = text.text.removesuffix(")")
        return Text(f"{head}, precision=lax.Precision.HIGHEST)")

    def combined(self, op: mlir.OpView, operands: Sequence[Text]) -> Text:
        """Rows back to tokens: by the kernel if a DMA can fetch such rows."""
        plan, rows, *gates = (operand.text for operand in operands)
        value = op.operation.operands[1]
        block = self.words.get(value, 0)
        lanes = width(value) % LANES == 0
        if not block and (self.compute != "float32" or not lanes):
            return super().expression(op, operands)
        dtype = f"jnp.{dtype_text(result_types(op)[0].dtype)}"
        return Text(
            f"combine_rows({', '.join([rows, plan, dtype, str(block), *gates])})"
        )

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
        return self.once(text, "words", f"as_words({text})", now)

    def once(self, text: str, kind: str, call: str, now: int) -> str:
        """The name of a call's result; a function makes each call once."""
        if call not in self.calls:
            name = self.names.give(f"{text.split('.')[0]}_{kind}", 1 << 30, now)
            self.lines.append(f"{name} = {call}")
            self.calls[call] = name
        return self.calls[call]

    def group(self, piece: Piece, values: Sequence[Value], plan: str, now: int) -> str:
        """A tuple of row spaces, weights or biases."""
        texts = [self.fetched(piece, v, plan, now) for v in values]
        return tuple_text(texts) if texts else "()"

    def word_group(self, values: Sequence[Value], now: int) -> str:
        texts = [self.as_words(v, now) for v in values]
        return tuple_text(texts) if texts else "()"

    def rows(self, op: mlir.OpView, piece: Piece, plan: str, now: int) -> None:
        """A call of `grouped_rows`."""
        schedule = attributes_of(op)["schedule"]
        inner, outer = piece.read_by(piece.lefts), piece.read_by(piece.results)
        numbers = piece.numbers([a for a in piece.arguments if a in {*inner, *outer}])
        biases = [a for a in outer if piece.is_weight(a)]
        columns = piece.wide(outer)
        tokens, rows = self.split(piece, piece.wide(inner), schedule["fetches"])
        sources = (("inner", [*tokens, *rows]), ("numbers", numbers))
        before = self.part(op, sources, piece.lefts)
        after = self.part(
            op,
            (
                ("sums", piece.sums),
                ("columns", columns),
                ("numbers", numbers),
                ("biases", biases),
            ),
            piece.results,
        )
        name = mlir.string(self.function, "sym_name")
        prologue = self.definitions.add(f"{name}_prologue", before.function())
        epilogue = self.definitions.add(f"{name}_epilogue", after.function())
        groups = [rows, columns, numbers, piece.rights, biases]
        texts = [self.group(piece, group, plan, now) for group in groups]
        fetched = f"Fetched({', '.join([self.word_group(tokens, now), *texts])})"
        blocks = tuple(schedule["blocks"])
        results = tuple_text(self.result_texts(op, blocks[1]))
        turned = tuple_text([str(t) for t in piece.transposed])
        names = self.name_results(op, "rows", now)
        self.lines.append(
            f"{tuple_text(names)} = grouped_rows({prologue}, {epilogue}, {plan}, "
            f"{fetched}, {turned}, {results}, {blocks})"
        )

    def result_texts(self, op: mlir.OpView, block: int) -> list[str]:
        """(width, dtype) of each result, as it is stored."""
        texts = []
        for value, kind in zip(op.operation.results, result_types(op), strict=True):
            columns = width(value)
            dtype = dtype_text(stored_dtype(kind, self.compute))
            pairs = columns % (2 * LANES) == 0 and block % (2 * LANES) == 0
            if dtype == "bfloat16" and is_combined(value) and pairs:
                self.words[value] = block
                dtype = "uint32"
            texts.append(f"({columns}, jnp.{dtype})")
        return texts

    def split(
        self, piece: Piece, rows: Sequence[Value], fetches: bool
    ) -> tuple[list[Value], list[Value]]:
        """Tokens that the kernel fetches rows of, and row spaces."""
        tokens = [v for v in rows if fetches and piece.arguments[v][0] == "token"]
        return tokens, [v for v in rows if v not in tokens]

    def part(
        self, op: mlir.OpView, sources: Sources, wanted: Sequence[Value]
    ) -> PartText:
        return PartText(op, self.maps_of, sources, wanted, self.compute)

    def sums(self, op: mlir.OpView, piece: Piece, plan: str, now: int) -> None:
        """A call of `grouped_sums`."""
        schedule = attributes_of(op)["schedule"]
        wanted = (*piece.lefts, *piece.rights)
        sides = [piece.read_by([v]) for v in wanted]
        numbers = piece.numbers(
            [a for a in piece.arguments if a in {*sides[0], *sides[1]}]
        )
        rows = [piece.wide(side) for side in sides]
        on_right = any(piece.arguments[v][0] == "token" for v in rows[1])
        function = mlir.string(self.function, "sym_name")
        names, groups = [], []
        for side, title in enumerate(("left", "right")):
            fetches = schedule["fetches"] and on_right == bool(side)
            tokens, others = self.split(piece, rows[side], fetches)
            sources = (("rows", [*tokens, *others]), ("numbers", numbers))
            part = self.part(op, sources, [wanted[side]])
            names.append(
                self.definitions.add(f"{function}_{title}", part.function(single=True))
            )
            groups.append(self.word_group(tokens, now))
            groups.append(self.group(piece, others, plan, now))
        groups.append(self.group(piece, numbers, plan, now))
        (kind,) = result_types(op)
        blocks = tuple(schedule["blocks"])
        (result,) = self.name_results(op, "d_weights", now)
        self.lines.append(
            f"{result} = grouped_sums({', '.join(names)}, {plan}, "
            f"Summed({', '.join(groups)}), {kind.shape[1:]}, "
            f"jnp.{dtype_text(kind.dtype)}, {blocks})"
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
