"""`python -m moegen`: the command line."""

import sys

from moegen.cli import main

sys.exit(main())
