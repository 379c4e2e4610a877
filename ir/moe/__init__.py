"""The dialect `moe`: what a mixture-of-experts layer means.

Tensors are MLIR's own. Sizes in the tables below: T tokens, K choices a token, E
experts, R rows (the static bound on routed rows), A and B widths.

A *choice* is an int32 tensor [T, K] of expert ids; -1 stands for "dropped" and has no
effect anywhere. *Rows* are float tensors [R, A] made by `moe.dispatch`: one row for
each kept choice, ordered by (expert, flat choice t*K + k); the rows past the last kept
choice are exactly zero. Ops on rows take the choice that made them, from which they
know each row's expert.
"""

from ir.moe.checks import check_groups
from ir.moe.choosing import (
    Assign,
    Count,
    ExpertChoice,
    Hash,
    Put,
    Softmax,
    SoftmaxGrad,
    Take,
    TopK,
)
from ir.moe.experts import ExpertBias, ExpertMatmul, ExpertOuter, ExpertSum
from ir.moe.maps import Map, Yield
from ir.moe.rows import Collect, Combine, Dispatch, DispatchChoices, RowDot, RowSum

__all__ = [
    "Assign",
    "Collect",
    "Combine",
    "Count",
    "Dispatch",
    "DispatchChoices",
    "ExpertBias",
    "ExpertChoice",
    "ExpertMatmul",
    "ExpertOuter",
    "ExpertSum",
    "Hash",
    "Map",
    "Put",
    "RowDot",
    "RowSum",
    "Softmax",
    "SoftmaxGrad",
    "Take",
    "TopK",
    "Yield",
    "check_groups",
]
