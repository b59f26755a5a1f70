"""Runs of `dreamer4-train` in forked processes: two in one directory, and one that loses its terminal."""

import os
import sys

import numpy as np

from dreamer4_impl.data.format import Header
from dreamer4_impl.data.writer import DatasetWriter
from dreamer4_impl.layers.actions import Categorical
from dreamer4_impl.training.command import main

STEPS = 6


def in_pairs(directory, trials, fork):
    """Two processes at a time that train in the same directory; in every second trial both resume."""
    data = _data(directory)
    for trial in range(trials):
        folder, resume = directory / f"pair-{trial - trial % 2}", trial % 2
        start, go = os.pipe()
        children = [
            _child(folder, f"{trial}-{name}", _words(folder, data, trial, resume), start, fork) for name in "ab"
        ]
        os.write(go, b"xx")
        statuses = {child: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
        lines = "\n".join(f"{child} {status}" for child, status in statuses.items())
        (folder / f"{trial}.statuses").write_text(lines)
        os.close(start)
        os.close(go)


def without_terminal(directory, fork):
    """Standard error that is closed, or a pipe without a reader."""
    data = _data(directory)
    for name, lose in {"closed": _close, "broken": _break}.items():
        folder = directory / name
        child = fork(lambda folder=folder, lose=lose: (lose(), os._exit(main(_words(folder, data, 0, False)))))
        folder.mkdir(exist_ok=True)
        (folder / "status").write_text(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))


def _child(folder, name, words, start, fork):
    folder.mkdir(exist_ok=True)

    def _run():
        os.dup2(os.open(folder / f"{name}.stderr", os.O_WRONLY | os.O_CREAT), 2)
        os.read(start, 1)
        status = main(words)
        sys.stderr.flush()
        os._exit(status)

    return fork(_run)


def _words(folder, data, trial, resume):
    config = [] if resume else [str(folder.parent / "run.toml"), "--data", data]
    steps = ["--set", f"steps={STEPS * (1 + trial % 2)}"]
    return ["tokenizer", *config, "--run", str(folder / "run"), *["--resume"][:resume], *steps]


def _data(directory):
    (directory / "run.toml").write_text(
        '[model]\npreset = "tiny"\n[batches]\nsize = 2\n[records]\ncheckpoint_every = 2\ntensorboard = false\n'
    )
    if not (directory / "data").exists():
        random = np.random.default_rng(0)
        with DatasetWriter(directory / "data", Header("noise", 6, 8, 3, (Categorical("move", 4),))) as writer:
            for _ in range(3):
                writer.add_episode(random.integers(0, 256, (20, 6, 8, 3), np.uint8), {"move": np.ones(20)}, np.ones(20))
    return str(directory / "data")


def _close():
    os.close(2)
    sys.stderr = None


def _break():
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 2)
