"""The benchmarks are imported from the checkout, as run.sh does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
