"""`python -m bench`: the command `moegen bench` by itself."""

import sys

from bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
