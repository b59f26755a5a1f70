"""Entry point of `python -m studies.bootstrap`."""

import sys

from studies.bootstrap.command import main

sys.exit(main())
