"""Names that `moegen.compile` keeps for itself: no size of a layer can have them."""

TAKEN = (
    "layer",
    "target",
    "dtype",
    "cache",
    "on_stage",
    "interpret",
    "schedule",
    "weights",
)
