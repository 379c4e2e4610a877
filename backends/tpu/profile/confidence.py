"""How far an estimate can be trusted: a class by chip and by what was simulated.

A: kernels like it came out within 5% of published times, in the median. B: within 12%.
C: a model that published times do not confirm, XLA's own estimate, or a copy's bytes.
D: something that the time follows from was assumed; the op's note says what.
`docs/tpu-cycles.md` has the figures behind the classes.
"""

MEANING = {
    "A": "kernels like it came out within 5% of published times, in the median",
    "B": "kernels like it came out within 12% of published times, in the median",
    "C": "a model that no published time confirms, or XLA's own estimate",
    "D": "something that the time follows from was assumed; see the note",
}
_KERNELS = {"v4": "A", "v5e": "A", "v5p": "A", "v6e": "B", "tpu7x": "B"}
_WORSE = {"A": "B", "B": "C", "C": "C"}


def confidence(chip: str, kernel: bool, assumed: bool) -> str:
    """The class of a simulated op; XLA's own ops were held against fewer times."""
    found = _KERNELS.get(chip, "C")
    if not kernel:
        found = _WORSE[found]
    return _WORSE[found] if assumed else found
