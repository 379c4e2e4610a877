"""A configuration of `glam train` for a model that XLA compiles in a moment."""

CONFIG = """
[model]
layers = 2
model = 8
hidden = 8
heads = 2
head = 4
experts = 4
vocabulary = 259
sequence = 16
[data]
source = "text.txt"
[train]
steps = 4
batch = 2
"""


def options(**settings: object) -> list[str]:
    """`options(train__steps=2)` as ["--set", "train.steps=2"]."""
    pairs = [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
    return [part for pair in pairs for part in ("--set", pair)]
