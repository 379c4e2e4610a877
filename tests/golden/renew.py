"""Write the goldens anew: python -m tests.golden.renew, from the repository's root.

They are to be read in the diff before they are committed.
"""

import json
import tempfile
from pathlib import Path

from backends.emitted import Emitted
from moegen.cache import digest
from moegen.layers import SHIPPED
from tests.moegen.small import compiled

FOLDER = Path(__file__).parent
HASHES = FOLDER / "emitted.json"
TEXTS = {
    "cpu glam float32": FOLDER / "glam.txt",
    "tpu-v4 glam bfloat16": FOLDER / "glam_tpu_v4.txt",
}
TARGETS = ("cpu", "tpu-v4")
DTYPES = ("float32", "bfloat16")


def emitted(cache: Path) -> dict[str, Emitted]:
    """Every layer that ships as it is emitted, by "target layer dtype"."""
    return {
        f"{target} {name} {dtype}": compiled(name, cache, dtype, target).emitted
        for target in TARGETS
        for name in SHIPPED
        for dtype in DTYPES
    }


def digests(modules: dict[str, Emitted]) -> dict[str, str]:
    return {name: digest(module) for name, module in modules.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        modules = emitted(Path(folder))
    text = json.dumps(digests(modules), indent=2) + "\n"
    HASHES.write_text(text, encoding="utf-8", newline="\n")
    for name, file in TEXTS.items():
        file.write_text(modules[name].text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
