"""`python -m dreamer4_conformance`: the command line without an installed package."""

import sys

from dreamer4_conformance.cli import main

sys.exit(main())
