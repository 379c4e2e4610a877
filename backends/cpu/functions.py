"""A function of the final module, with grouped matmuls run by the CPU's kernels."""

from backends.block_text import block_function, tuple_text
from backends.functions import FunctionText, map_texts
from backends.scalar_text import Text
from ir import mlir
from ir.op import attributes_of, operand_types


class CpuFunction(FunctionText):
    """Writes one function of the module."""

    def grouped(self, op: mlir.OpView, operands: list[Text], now: int) -> None:
        told = attributes_of(op)
        wanted = f"{mlir.string(self.function, 'sym_name')}_block"
        types = operand_types(op)[1:]
        lines = block_function(
            op, types, lambda m, t: map_texts(m, t, self.definitions)
        )
        function = self.definitions.add(wanted, lines)
        plan, *fetched = operands
        kinds: dict[str, list[str]] = {
            k: [] for k in ("token", "choice", "row", "weight")
        }
        for text, kind in zip(fetched, told["operands"], strict=True):
            kinds[kind].append(text.text)
        groups = ", ".join(tuple_text(kinds[k]) for k in kinds)
        made: dict[str, list[str]] = {"row": [], "weight": []}
        casts: list[str] = []
        mixed = (
            len(
                {
                    d
                    for d, k in zip(told["dtypes"], told["results"], strict=True)
                    if k == "weight"
                }
            )
            > 1
        )
        for result, kind, dtype in zip(
            op.operation.results, told["results"], told["dtypes"], strict=True
        ):
            wanted = f"{'rows' if kind == 'row' else 'd_weights'}"
            name = self.names.give(wanted, self.last_use(result), now)
            self.values[result] = Text(name)
            made[kind].append(name)
            if kind == "weight" and mixed:
                casts.append(f"{name} = {name}.astype(jnp.{dtype})")
        targets = f"{tuple_text(made['row'])}, {tuple_text(made['weight'])}"
        tiles = tuple_text([str(tile) for tile in told["schedule"]["tiles"]])
        orientation = ", by_columns=True" if told["schedule"]["by_columns"] else ""
        call = f"grouped({function}, {plan.text}, {groups}, {tiles}{orientation})"
        self.lines.append(f"{targets} = {call}")
        self.lines.extend(casts)
