"""Stage with one row per way to fail, each followed by a row that must still be measured.

Attempts are appended to the file that FAULTY_ATTEMPTS names.
"""

import os
import time
from functools import partial
from pathlib import Path

from benchmarks.gpu.rows import Row, Unavailable


def attempted(name, measure):
    attempts = Path(os.environ["FAULTY_ATTEMPTS"])
    before = attempts.read_text().split("\n").count(name) if attempts.exists() else 0
    with attempts.open("a") as file:
        file.write(name + "\n")
    return measure(before)


def unavailable(before):
    raise Unavailable("there is no such device")


def killed(before):
    os.kill(os.getpid(), 9)


def faulty(name, measure, **options):
    return Row("faulty", name, partial(attempted, name, measure), **options)


def rows(smoke):
    return [
        faulty("raises", lambda before: {"ms": 1 / 0}),
        faulty("after it", lambda before: {"ms": 1.0, "passes": [{"flop": 1e9, "bytes": 1.0}]}),
        faulty("is killed", killed),
        faulty("after that", lambda before: {"ms": 2.0}),
        faulty("hangs", lambda before: {"ms": time.sleep(60)}, budget=0.5),
        faulty("raises once", lambda before: {"ms": before / before}),
        faulty("unavailable", unavailable),
        faulty("after all", lambda before: {"ms": 3.0}),
    ]
