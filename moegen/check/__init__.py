"""Compare a layer with the float64 interpreter: forward and every gradient.

for case in check(layer, routings=["zipf"]):
    print(case.routing, case.worst)
"""

from moegen.check.compare import BOUNDS, Finding
from moegen.check.routings import ROUTINGS, Routing
from moegen.check.run import Case, check

__all__ = ["BOUNDS", "ROUTINGS", "Case", "Finding", "Routing", "check"]
