"""The report as one page that needs nothing else: `page(document) -> HTML`."""

import json
from pathlib import Path
from typing import Any

_TEMPLATE = Path(__file__).with_name("page.html")


def page(report: dict[str, Any]) -> str:
    """A self-contained page of a report's `document`; no network, light and dark."""
    # In a script element only `</` could end the data early.
    data = json.dumps(report, separators=(",", ":")).replace("</", "<\\/")
    return _TEMPLATE.read_text(encoding="utf-8").replace("@DATA@", data)
