"""What a layer hands to moegen.lang: refused at its own line."""

import jax.numpy as jnp
import pytest

from ir import errors
from moegen.layers import find_layer
from moegen.trace import trace
from tests.moegen.layer_text import holds, refusal, written

WI = 'wi = param("wi", "experts model hidden")'
KEPT = "kept = assign"
ACTIVATION = "jax.nn.relu(expert_matmul(rows, wi))"


def before(line: str) -> dict[str, str]:
    """The layer with a line of its own before its capacity."""
    return {KEPT: f"{line}  # here\n    {KEPT}"}


# Each case edits lines of LAYER; the line that ends in "# here" is the one to blame.
CASES = {
    "a size that is text": (
        {"top_k(scores, 2)": "top_k(scores, 'two')  # here"},
        errors.WrongArgument,
        ["top_k takes k as a whole number, and got 'two' (str)"],
    ),
    "a size that is a fraction": (
        {"top_k(scores, 2)": "top_k(scores, 2.0)  # here"},
        errors.WrongArgument,
        ["top_k takes k as a whole number, and got 2.0 (float)"],
    ),
    "a size that is a tensor": (
        {"top_k(scores, 2)": "top_k(scores, scores.sum())  # here"},
        errors.WrongArgument,
        ["k as a whole number, and got the tensor f32[]"],
    ),
    "operands in the wrong order": (
        {"top_k(scores, 2)": "top_k(2, scores)  # here"},
        errors.WrongArgument,
        ["top_k takes a tensor, and got 2 (int): pass an input, a parameter"],
    ),
    "a list for a tensor": (
        {"dispatch(x, kept)": "dispatch([1, 2], kept)  # here"},
        errors.WrongArgument,
        ["dispatch takes a tensor, and got [1, 2] (list)"],
    ),
    "a capacity that is a fraction": (
        {"capacity(tokens, experts, factor)": "2.5", "2.5)": "2.5)  # here"},
        errors.WrongArgument,
        ["assign takes capacity as a whole number, and got 2.5"],
    ),
    "a capacity factor that is no number": (
        {"experts, factor))": "experts, float('nan')))  # here"},
        errors.WrongArgument,
        ["capacity takes its factor as a finite number, and got nan"],
    ),
    "a parameter without a name": (
        {WI: 'wi = param("", "experts model hidden")  # here'},
        errors.BadName,
        ["the parameter cannot be called '': it is empty"],
    ),
    "a parameter whose name breaks a line": (
        {WI: 'wi = param("w\\ni", "experts model hidden")  # here'},
        errors.BadName,
        ["cannot be called 'w\\ni'", "a control character", "letters, digits and _"],
    ),
    "a parameter that is called as an input": (
        {WI: 'wi = param("x", "experts model hidden")  # here'},
        errors.BadName,
        ["cannot be called 'x': an input of the layer has that name"],
    ),
    "axes as a tuple": (
        {WI: 'wi = param("wi", ("experts", "model"))  # here'},
        errors.WrongArgument,
        ["the names of its axes, and got ('experts', 'model') (tuple)", "one text"],
    ),
    "a dtype that is none": (
        {WI: 'wi = param("wi", "experts model hidden", dtype="flot32")  # here'},
        errors.WrongArgument,
        ["'wi' takes a dtype of arrays, and got 'flot32'", "use float32"],
    ),
    "a dtype that JAX would shorten": (
        {WI: 'wi = param("wi", "experts model hidden", dtype="float64")  # here'},
        errors.WrongArgument,
        ["got 'float64' (str)", "jax_enable_x64"],
    ),
    "a number for an initialiser": (
        {WI: 'wi = param("wi", "experts model hidden", 0.02)  # here'},
        errors.WrongArgument,
        ["an initialiser of moegen.initializers, and got 0.02", "normal(0.02)"],
    ),
    "an input with a default that is none": (
        {
            'x=tensor("tokens model"),': 'x=tensor("tokens model", default="zeros"),'
            "  # here"
        },
        errors.WrongArgument,
        ["a default of ones or uniform, and got 'zeros'"],
    ),
    "a loss that is a number": (
        before('loss("l", 1.0)'),
        errors.WrongArgument,
        ["loss 'l' takes a tensor, and got 1.0 (float)"],
    ),
    "a weight that is text": (
        before('loss("l", scores.sum(), "much")'),
        errors.WrongArgument,
        ["loss 'l' takes its weight as a finite number, and got 'much'"],
    ),
    "a metric that dispatch records": (
        before('metric("load", scores)'),
        errors.BadName,
        ["the metric cannot be called 'load': dispatch records"],
    ),
    "a mask of other tokens": (
        {"top_k(scores, 2)": "drop(top_k(scores, 2), x[0] > 0)  # here"},
        errors.ShapeMismatch,
        ["drop takes a bool for each token or choice of i32[8,2]", "i1[4]"],
    ),
    "a mask of tokens of no group": (
        before('loss("l", load_balance(scores, choice, 2, x[0] > 0))'),
        errors.ShapeMismatch,
        ["load_balance takes valid as bool [8]", "i1[4]"],
    ),
    "a bias of another width": (
        {
            ACTIVATION: "expert_bias(expert_matmul(rows, wi)"
            ', param("b", "experts model"))  # here'
        },
        errors.ShapeMismatch,
        ["expert_bias takes a bias", "f32[16,6]", "f32[3,4]", "last axis must be 6"],
    ),
    "another number of experts": (
        {"dispatch(x, kept)": "dispatch(x, kept, experts=7)  # here"},
        errors.ShapeMismatch,
        ["the 3 experts that its choice was made among, and got experts=7"],
    ),
    "weights of other experts": (
        {
            WI: 'wi = param("wi", "other model hidden")',
            "(rows, wi))": "(rows, wi))  # here",
        },
        errors.ShapeMismatch,
        ["weights of 3 experts", "the dispatch at layer.py:17", "f32[5,4,6]"],
    ),
    "numpy on a traced tensor": (
        {ACTIVATION: "__import__('numpy').tanh(expert_matmul(rows, wi))  # here"},
        errors.ValueUnknown,
        ["asks for the value of a tensor", "jax.numpy instead of numpy"],
    ),
    "a traced number": (
        before("float(x[0, 0])"),
        errors.ValueUnknown,
        ["instead of float(...)"],
    ),
    "a traced index": (
        before("range(choice[0, 0])"),
        errors.ValueUnknown,
        ["loops run over sizes alone"],
    ),
    "a function that moegen.lang lacks": (
        {"top_k(scores, 2)": "__import__('moegen').lang.topk(scores, 2)  # here"},
        errors.LayerRaised,
        ["has no attribute 'topk'; did you mean 'top_k'?"],
    ),
    "a print of values": (
        before('jax.debug.print("{}", x)'),
        errors.UnsupportedFunction,
        ["the layer uses 'debug_", "which a layer cannot contain"],
    ),
    "complex rows": (
        {ACTIVATION: "jnp.abs(expert_matmul(rows, wi) * 1j)  # here"},
        errors.DtypeMismatch,
        ["tensors of float32, bfloat16", "complex64[16,6]", ".astype"],
    ),
    "an elementwise function that the IR lacks": (
        {ACTIVATION: "jax.scipy.special.digamma(expert_matmul(rows, wi))  # here"},
        errors.UnsupportedFunction,
        ["digamma uses 'digamma'"],
    ),
    "a size that compile keeps for itself": (
        {"other=5": "dtype=5", "def layer(": "def layer(  # here"},
        errors.NotALayer,
        ["'dtype' of the layer 'layer' has a name that moegen.compile keeps"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_argument_is_told_at_its_own_line(case, tmp_path):
    edits, kind, parts = CASES[case]
    name, line = written(tmp_path, edits)
    text = refusal(kind, lambda: trace(find_layer(name)))
    holds(text, [f"layer.py:{line}: ", *parts])


def test_dtypes_may_be_given_as_jax_has_them(tmp_path):
    edit = {WI: 'wi = param("wi", "experts model hidden", dtype=jnp.bfloat16)'}
    name, _ = written(tmp_path, edit)
    assert "tensor<3x4x6xbf16>" in str(trace(find_layer(name)))


def test_text_beyond_ascii_is_kept(tmp_path):
    edits = {
        WI: 'größe = param("gewicht_é", "experts model hidden")',
        "(rows, wi))": "(rows, größe))",
        "factor=2.0": 'factor=2.0, straße=float("inf")',
    }
    name, _ = written(tmp_path, edits)
    module = trace(find_layer(name))
    from ir import mlir

    text = mlir.print_module(module)
    assert mlir.print_module(mlir.parse(text)) == text
    facts = " ".join(map(str, mlir.argument_facts(mlir.functions(module)["forward"])))
    assert "gewicht_" in facts


def test_a_place_beyond_ascii_is_told(tmp_path):
    folder = tmp_path / "schöne Grüße"
    folder.mkdir()
    edit = {"(rows, wi))": "(rows, wi) + jnp.ones((16, 6)))  # here"}
    name, line = written(folder, edit)
    text = refusal(errors.RowsMeetOthers, lambda: trace(find_layer(name)))
    holds(text, [f"layer.py:{line}: add mixes rows of experts with f32[16,6]"])


def test_arrays_of_numpy_are_tensors():
    from moegen.arguments import require_number, require_tensors, require_whole

    require_tensors("op", jnp.ones(2), jnp.ones(2).__array__())
    assert require_whole("op", "k", jnp.ones(2).shape[0]) == 2
    assert require_number("op", "factor", 2) == 2.0
