"""Native libraries print on standard output, which is for a command's one document."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def standard_output_closed() -> Iterator[None]:
    """What is written to file descriptor 1 meanwhile goes nowhere.

    Gloo greets there. What it has to complain about goes to standard error.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
