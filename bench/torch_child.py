"""Runs `transformers`' Mixtral block on request. Started by `torch_peer.py`.

    PYTHON torch_child.py THREADS     one JSON document a line, in and out

It imports nothing of this project and runs under an interpreter of its own, which has
torch and transformers. First line out: versions, or {"missing": reason}. Then
{"do": "build", "sizes", "dtype"} -> {}, {"do": "run", "form", "tokens"} -> {"seconds"}.
"""

import importlib
import json
import sys
import time
from typing import Any


class Block:
    """A Mixtral block with random weights; `form` is how transformers runs experts."""

    def __init__(self, torch: Any, sizes: dict[str, int], dtype: str) -> None:
        module = importlib.import_module("transformers.models.mixtral.modeling_mixtral")
        self.torch = torch
        self.dtype = getattr(torch, dtype)
        self.config = importlib.import_module("transformers").MixtralConfig(
            hidden_size=sizes["model"],
            intermediate_size=sizes["hidden"],
            num_local_experts=sizes["experts"],
            num_experts_per_tok=sizes["k"],
            vocab_size=64,
            num_hidden_layers=1,
        )
        self.config._experts_implementation = "eager"
        torch.manual_seed(0)
        torch.set_default_dtype(self.dtype)
        self.block = module.MixtralSparseMoeBlock(self.config)
        torch.set_default_dtype(torch.float32)
        with torch.no_grad():
            for parameter in self.block.parameters():
                parameter.normal_(std=0.02)
        self.block.eval()
        self.inputs: dict[int, Any] = {}

    def run(self, form: str, tokens: int) -> float:
        """Seconds of one forward pass."""
        if tokens not in self.inputs:
            shape = (1, tokens, self.config.hidden_size)
            self.inputs[tokens] = self.torch.randn(*shape, dtype=self.dtype)
        self.config._experts_implementation = form
        with self.torch.inference_mode():
            start = time.perf_counter()
            self.block(self.inputs[tokens])
            return time.perf_counter() - start


def answer(document: dict[str, Any]) -> None:
    """Send one line to the parent."""
    print(json.dumps(document), flush=True)


def serve(torch: Any) -> None:
    """Answer requests until the input closes."""
    block: Block | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "build":
                block = None
                block = Block(torch, request["sizes"], request["dtype"])
                answer({})
            elif block is not None:
                answer({"seconds": block.run(request["form"], request["tokens"])})
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Say which versions are here, then serve."""
    try:
        torch = importlib.import_module("torch")
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        answer({"missing": str(error)})
        return
    torch.set_num_threads(int(sys.argv[1]))
    answer({"torch": torch.__version__, "transformers": transformers.__version__})
    serve(torch)


if __name__ == "__main__":
    main()
