"""Where figures come from: the machine, the versions, the sizes."""

import os
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from backends.targets import HOST, find_target
from bench.result import Outcome
from bench.setting import Setting


def fingerprint(setting: Setting, outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """What another machine would have to match to see the same figures."""
    import jax

    facts = [row.facts for outcome in outcomes for row in outcome.rows]
    torch = next((f for f in facts if "torch" in f), {})
    return {
        "provenance": f"measured on {jax.devices()[0].platform}",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": cores(),
        "target": find_target(HOST).name,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        **{name: installed(name) for name in ("jax", "jaxlib", "numpy", "moegen")},
        "torch": torch.get("torch"),
        "transformers": torch.get("transformers"),
        "sizes": setting.sizes,
    }


def cpu_model() -> str:
    """The processor's name as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed(package: str) -> str | None:
    """A package's version; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
