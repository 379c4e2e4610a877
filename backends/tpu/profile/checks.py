"""What holds in every dump of the compiler's, and breaks where a text was damaged.

Virtual registers are written once, in one place, and read only if they are written
somewhere. So a dump with a lost or garbled line is refused instead of being simulated
as another program.
"""

from backends.tpu.profile.bundles import Instruction, Program
from backends.tpu.profile.operands import Register
from ir.errors import UnreadableBundles, Where


def check_registers(program: Program) -> None:
    """Raise UnreadableBundles at the first register that no whole dump would hold."""
    places: dict[str, str | None] = {}
    for each in program.instructions:
        for register in each.results:
            if register.virtual in places:
                raise _damaged(program, each, register, "is written twice")
            places[register.virtual] = register.physical
    for each in program.instructions:
        for register in each.registers:
            if register.virtual not in places:
                raise _damaged(program, each, register, "is read and never written")
            if register.physical != places[register.virtual]:
                where = f"is read from {register.physical} and lies elsewhere"
                raise _damaged(program, each, register, where)


def _damaged(
    program: Program, each: Instruction, register: Register, how: str
) -> UnreadableBundles:
    place = Where(program.name, each.line)
    reason = f"the register %{register.virtual} {how}: lines are lost or garbled"
    return UnreadableBundles(place, reason=reason)
