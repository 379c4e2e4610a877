"""The verifier: MLIR's own rules, then the declared rules of every op of ours."""

from ir import kernel, mlir, moe
from ir.errors import IllegalIR
from ir.op import verify_op

_OURS = (moe.Softmax.OPERATION_NAME[:4], kernel.RowPlan.OPERATION_NAME[:7])


def verify(module: mlir.Module, after: str) -> None:
    """Raise `IllegalIR` for the first op that breaks a rule; `after` names the pass."""
    try:
        with mlir.context():
            module.operation.verify()
    except mlir.MLIRError as error:
        details = " ".join(str(d.message) for d in error.error_diagnostics)
        raise IllegalIR(op="the module", after=after, reason=details) from None
    for op in mlir.walk(module.body):
        if op.operation.name.startswith(_OURS):
            verify_op(op, after)
