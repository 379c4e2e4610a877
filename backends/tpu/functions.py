"""A function of the final module, with grouped matmuls run by the TPU's kernels."""

from collections.abc import Sequence

from backends.block_text import MapTexts, tuple_text
from backends.functions import Definitions, FunctionText, map_texts
from backends.scalar_text import Text, dtype_text
from backends.tpu.part_text import PartText
from backends.tpu.piece import Piece, take_apart, width
from ir import mlir
from ir.mlir import Value
from ir.op import attributes_of, operand_types, result_types


class TpuFunction(FunctionText):
    """Writes one function of the module."""

    def __init__(self, function: mlir.OpView, definitions: Definitions) -> None:
        super().__init__(function, definitions)
        self.row_spaces: dict[tuple[Value, str], str] = {}
        self.fetched: dict[Value, str] = {}

    def grouped(self, op: mlir.OpView, operands: list[Text], now: int) -> None:
        piece = take_apart(op)
        plan = operands[0].text
        self.fetched = {
            argument: self.fetch(kind, outer, text.text, plan, now)
            for (argument, (kind, outer)), text in zip(
                piece.arguments.items(), operands[1:], strict=True
            )
        }
        write = {"rows": self.rows, "sums": self.sums, "maps": self.maps}[piece.kind]
        write(op, piece, plan, now)

    def expression(self, op: mlir.OpView, operands: Sequence[Text]) -> Text:
        """An op outside block programs; products of float32 are really of float32."""
        text = super().expression(op, operands)
        single = all(kind.dtype == "float32" for kind in operand_types(op))
        if op.operation.name != "stablehlo.dot_general" or not single:
            return text
        head = text.text.removesuffix(")")
        return Text(f"{head}, precision=lax.Precision.HIGHEST)")

    def fetch(self, kind: str, outer: Value, text: str, plan: str, now: int) -> str:
        """The row space that an operand becomes, fetched once a function."""
        if kind not in ("token", "choice"):
            return text
        function = "fetch_tokens" if kind == "token" else "fetch_choices"
        call = f"{function}({text}, {plan})"
        if (outer, call) not in self.row_spaces:
            name = self.names.give(f"{text.split('.')[0]}_rows", 1 << 30, now)
            self.lines.append(f"{name} = {call}")
            self.row_spaces[outer, call] = name
        return self.row_spaces[outer, call]

    def texts_of(self, values: Sequence[Value]) -> str:
        return tuple_text([self.fetched[v] for v in values]) if values else "()"

    def rows(self, op: mlir.OpView, piece: Piece, plan: str, now: int) -> None:
        """A call of `grouped_rows`."""
        inner, outer = piece.read_by(piece.lefts), piece.read_by(piece.results)
        numbers = piece.numbers([a for a in piece.arguments if a in {*inner, *outer}])
        biases = [a for a in outer if piece.is_weight(a)]
        columns = piece.wide(outer)
        rows = piece.wide(inner)
        before = PartText(
            op, self.maps_of, (("inner", rows), ("numbers", numbers)), piece.lefts
        )
        after = PartText(
            op,
            self.maps_of,
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
        groups = (rows, columns, numbers, piece.rights, biases)
        fetched = f"Fetched({', '.join(self.texts_of(g) for g in groups)})"
        kinds = result_types(op)
        widths = (width(v) for v in piece.results)
        results = tuple_text(
            [
                f"({w}, jnp.{dtype_text(kind.dtype)})"
                for w, kind in zip(widths, kinds, strict=True)
            ]
        )
        turned = tuple_text([str(t) for t in piece.transposed])
        blocks = tuple(attributes_of(op)["schedule"]["blocks"])
        names = self.name_results(op, "rows", now)
        self.lines.append(
            f"{tuple_text(names)} = grouped_rows({prologue}, {epilogue}, {plan}, "
            f"{fetched}, {turned}, {results}, {blocks})"
        )

    def sums(self, op: mlir.OpView, piece: Piece, plan: str, now: int) -> None:
        """A call of `grouped_sums`."""
        sides = [piece.read_by([v]) for v in (*piece.lefts, *piece.rights)]
        numbers = piece.numbers(
            [a for a in piece.arguments if a in {*sides[0], *sides[1]}]
        )
        rows = [piece.wide(side) for side in sides]
        wanted = (*piece.lefts, *piece.rights)
        function = mlir.string(self.function, "sym_name")
        names = []
        for title, held, value in zip(("left", "right"), rows, wanted, strict=True):
            sources = (("rows", held), ("numbers", numbers))
            part = PartText(op, self.maps_of, sources, [value])
            names.append(
                self.definitions.add(f"{function}_{title}", part.function(single=True))
            )
        (kind,) = result_types(op)
        blocks = tuple(attributes_of(op)["schedule"]["blocks"])
        (result,) = self.name_results(op, "d_weights", now)
        spaces = ", ".join(self.texts_of(held) for held in rows)
        self.lines.append(
            f"{result} = grouped_sums({', '.join(names)}, {plan}, ({spaces}), "
            f"{self.texts_of(numbers)}, {kind.shape[1:]}, "
            f"jnp.{dtype_text(kind.dtype)}, {blocks})"
        )

    def maps(self, op: mlir.OpView, piece: Piece, plan: str, now: int) -> None:
        """Elementwise ops alone: plain XLA code on whole row spaces."""
        held = piece.read_by(piece.results)
        part = PartText(op, self.maps_of, (("rows", held),), piece.results)
        name = f"{mlir.string(self.function, 'sym_name')}_rows"
        function = self.definitions.add(name, part.function())
        names = self.name_results(op, "rows", now)
        call = f"{function}({self.texts_of(held)})"
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
