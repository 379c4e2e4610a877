"""The page of errors, as Markdown, from the error classes themselves.

`python -m moegen.error_reference > docs/errors.md` writes it; a test keeps it current.
"""

import inspect

from ir import errors


def reference() -> str:
    """Every error with its sentence, in the order of `ir/errors.py`."""
    parts = [
        "# Errors",
        "Written by `python -m moegen.error_reference`; do not edit. Every error is one"
        " sentence, behind the user's own line where there is one; `{...}` stands for"
        " the numbers and names at hand. All derive from `moegen.MoegenError`; those of"
        " a layer from `ir.errors.LayerError`.",
    ]
    for name, error in vars(errors).items():
        if not inspect.isclass(error) or not issubclass(error, errors.MoegenError):
            continue
        if "sentence" in vars(error) and error is not errors.MoegenError:
            parts.append(f"## {name}\n\n> {error.sentence}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
