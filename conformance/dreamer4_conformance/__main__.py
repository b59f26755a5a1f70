"""`python -m dreamer4_conformance`: the command, where the package is on the path and not installed."""

import sys

from dreamer4_conformance.cli import main

sys.exit(main())
