"""Write the goldens anew: python -m tests.golden.renew, from the repository's root.

They are to be read in the diff before they are committed.
"""

import hashlib
import json
import tempfile
from pathlib import Path

from moegen.layers import SHIPPED
from tests.moegen.small import compiled

FOLDER = Path(__file__).parent
HASHES = FOLDER / "emitted.json"
TEXT = FOLDER / "glam.txt"
DTYPES = ("float32", "bfloat16")


def emitted(cache: Path) -> dict[str, str]:
    """The emitted source of every layer that ships, by "layer dtype"."""
    return {
        f"{name} {dtype}": compiled(name, cache, dtype).source
        for name in SHIPPED
        for dtype in DTYPES
    }


def digests(sources: dict[str, str]) -> dict[str, str]:
    return {
        name: hashlib.sha256(text.encode()).hexdigest()
        for name, text in sources.items()
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        sources = emitted(Path(folder))
    text = json.dumps(digests(sources), indent=2) + "\n"
    HASHES.write_text(text, encoding="utf-8", newline="\n")
    TEXT.write_text(sources["glam float32"], encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
