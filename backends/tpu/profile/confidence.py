"""How far an estimate can be trusted: a class by chip and by what was simulated.

Classes are expectations from earlier comparisons with published times of such kernels;
`accuracy` prints what the simulator reaches now.
"""

MEANING = {
    "A": "expected within 5%, as published times of such kernels were met",
    "B": "expected within 12%",
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
