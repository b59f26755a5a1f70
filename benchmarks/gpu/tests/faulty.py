"""A stage with every way for a row to go wrong, each followed by one that must be measured all the same."""

import os
import time

from benchmarks.gpu.rows import Row


def rows(smoke: bool) -> list[Row]:
    return [
        Row("faulty", "raises", lambda: {"ms": 1 / 0}),
        Row("faulty", "after it", lambda: {"ms": 1.0, "passes": [{"flop": 1e9, "bytes": 1.0}]}),
        Row("faulty", "ends its process", lambda: {"ms": os._exit(3)}),
        Row("faulty", "after that", lambda: {"ms": 2.0}),
        Row("faulty", "hangs", lambda: {"ms": time.sleep(60)}, budget=0.5),
        Row("faulty", "after all", lambda: {"ms": 3.0}),
    ]
