"""Hostile adapters: code that ends, blocks or changes the process, and what the suite must say of each.

Each entry is one statement at one place of an adapter that is otherwise right. The run judges two clauses: that of
`corrupt`, where the statement usually stands, and afterwards that of `ramp_weight`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from textwrap import indent


class Outcome(Enum):
    """Verdicts on `corrupt` and `ramp_weight`, and the exit status of the run."""

    HARMLESS = "pass", "pass", 0
    NOTED = "pass", "pass", 0  # and the text stands in the message of the clause of `corrupt`
    FAILS = "fail", "pass", 1
    UNDECIDED = "inconclusive", "pass", 0
    LAST_FAILS = "pass", "fail", 1
    LAST_UNDECIDED = "pass", "inconclusive", 0
    BOTH_FAIL = "fail", "fail", 1
    BOTH_UNDECIDED = "inconclusive", "inconclusive", 0
    NOT_PROVIDED = "not-provided", "pass", 0
    REFUSED = None, None, 2


@dataclass(frozen=True)
class Hostile:
    """One adapter.

    Attributes:
        id: kind and name, separated by a slash.
        source: of the adapter's file, with the class `Mine`.
        outcome: expected verdicts.
        text: stands in the message of the clause, or in the error output of a refused adapter.
    """

    id: str
    source: str
    outcome: Outcome
    text: str


TEMPLATE = """\
import atexit, builtins, collections, ctypes, faulthandler, gc, itertools, json, locale, logging, multiprocessing, os
import queue, random, re, resource, select, signal, socket, subprocess, sys, tempfile, threading, time, warnings
import numpy as np
import torch
import hypothesis
from dreamer4_conformance import {base}

{at_import}

class Mine({base}):
    name, version = "me/hostile", "1.0"
    {declaration}

    def __init__(self):
        {constructor}

    def corrupt(self, z0, z1, tau):
        {operation}
        level = tau[..., None, None]
        return (1 - level) * z0 + level * z1

    def ramp_weight(self, tau):
        {last}
        return 0.9 * tau + 0.1

    {method}
"""
WIDTH = {"at_import": 0, "declaration": 4, "constructor": 8, "operation": 8, "last": 8, "method": 4}
Table = dict[str, tuple[str, str] | str]


def _source(place: str, code: str, base: str) -> str:
    fields = dict.fromkeys(WIDTH, "pass") | {place: code}
    indented = {name: indent(text, " " * WIDTH[name]).lstrip() for name, text in fields.items()}
    return TEMPLATE.format(base=base, **indented)


def _entries(
    kind: str, outcome: Outcome, table: Table, place: str = "operation", base: str = "Adapter"
) -> Iterator[Hostile]:
    for name, entry in table.items():
        code, text = (entry, "") if isinstance(entry, str) else entry
        yield Hostile(f"{kind}/{name}", _source(place, code, base), outcome, text)


EXITS: Table = {
    "exit-0": ("sys.exit(0)", "SystemExit"),
    "exit-1": ("sys.exit(1)", "SystemExit"),
    "exit-none": ("sys.exit(None)", "SystemExit"),
    "exit-text": ("sys.exit('no GPU')", "no GPU"),
    "os-exit-0": ("os._exit(0)", "exit status 0"),
    "os-exit-77": ("os._exit(77)", "exit status 77"),
    "abort": ("os.abort()", "SIGABRT"),
    "fork-and-exit": ("if os.fork(): os._exit(0)\ntime.sleep(1000)", "exit status 0"),
    "writes-everywhere": "for fd in range(3, 50):\n    try: os.write(fd, b'junk' * 4)\n    except OSError: pass",
    "exec": "os.execv('/bin/true', ['true'])",
    "exit-after-try": "try:\n    os._exit(0)\nfinally:\n    pass",
    "interpreter-exit": "threading.main_thread(); ctypes.pythonapi.Py_Exit(0)",
}
SIGNALS: Table = {
    "sigkill": ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    "sigsegv": ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    "sigabrt": ("os.kill(os.getpid(), signal.SIGABRT)", "SIGABRT"),
    "sigterm": ("os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
    "sighup": ("os.kill(os.getpid(), signal.SIGHUP)", "SIGHUP"),
    "sigbus": ("os.kill(os.getpid(), signal.SIGBUS)", "SIGBUS"),
    "sigint": "signal.raise_signal(signal.SIGINT)",
    "sigint-default": "signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)",
    "alarm": "signal.setitimer(signal.ITIMER_REAL, 0.02); time.sleep(0.5)",
    "alarm-handler": "signal.signal(signal.SIGALRM, lambda *_: 1 / 0)\n"
    "signal.setitimer(signal.ITIMER_REAL, 0.02)\ntime.sleep(0.5)",
    "null-pointer": ("ctypes.string_at(0)", "SIGSEGV"),
    "process-group-term": "os.killpg(0, signal.SIGTERM)",
    "process-group-kill": "os.killpg(os.getpgrp(), signal.SIGKILL)",
    "cpu-limit": "resource.setrlimit(resource.RLIMIT_CPU, (0, 0))\nwhile True: pass",
}
RECURSION: Table = {
    "recursion": ("f = lambda: f()\nf()", "RecursionError"),
    "recursion-in-c": "sys.setrecursionlimit(10**9)\nf = lambda x: sorted([x], key=f)\nf(0)",
    "repr-recursion": "class R:\n    __repr__ = lambda self: repr([self])\nrepr(R())",
}
RAISED: Table = {
    "keyboard-interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "generator-exit": ("raise GeneratorExit", "GeneratorExit"),
    "base-exception": ("raise BaseException('base')", "base"),
    "own-base-exception": "class Own(BaseException): pass\nraise Own",
    "stop-iteration": "raise StopIteration",
    "line": ("1 / 0", "mine.py:"),
    "group": "raise BaseExceptionGroup('several', [SystemExit(0), ValueError()])",
    "cyclic-cause": "e = ValueError('cycle')\ne.__cause__ = e\nraise e",
    "str-raises": ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", "E"),
    "str-exits": "class E(Exception):\n    def __str__(self): sys.exit(0)\nraise E",
    "repr-raises": "class E(Exception):\n    def __repr__(self): 1 / 0\nraise E",
    "str-of-other-type": "class E(Exception):\n    def __str__(self): return 3\nraise E",
    "str-subclass": "class S(str):\n    def __str__(self): 1 / 0\nraise ValueError(S('x'))",
    "escape-sequence": ("raise ValueError('\\x1b[2J\\x1b[31mred')", "\\x1b[31mred"),
    "lone-surrogate": ("raise ValueError('\\ud800')", "\\ud800"),
    "null-byte": ("raise ValueError('a\\0b')", "\\x00"),
    "ten-megabytes": "raise ValueError('x' * 10**7)",
    "class-name": "raise type('\\x1b[2JE', (Exception,), {})()",
    "warning": "raise UserWarning('careful')",
    "pytest-skip": "import pytest; pytest.skip('not today')",
    "pytest-exit": "import pytest; pytest.exit('enough', 0)",
    "hypothesis-reject": "hypothesis.reject()",
    "hypothesis-stop": "from hypothesis.internal.conjecture.data import StopTest\nraise StopTest(0)",
    "assertion": "assert False, 'shape'",
}
HANGS: Table = {
    "busy": ("while True: pass", "did not return"),
    "sleep": ("time.sleep(1e6)", "did not return"),
    "lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "event": "threading.Event().wait()",
    "queue": "queue.Queue().get()",
    "c-loop": "collections.deque(itertools.repeat(0), maxlen=0)",
    "regex": "re.match('(a+)+$', 'a' * 64 + 'b')",
    "pipe": "os.read(os.pipe()[0], 1)",
    "select": "select.select([], [], [])",
    "accept": "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); s.accept()",
    "pause": "signal.pause()",
    "child": "subprocess.run(['sleep', '1000'])",
    "join": "t = threading.Thread(target=time.sleep, args=(1e6,)); t.start(); t.join()",
    "catches-everything": "while True:\n    try: time.sleep(1)\n    except BaseException: pass",
    "ignores-signals": "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1e6)",
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "str-hangs": "class E(Exception):\n    def __str__(self): time.sleep(1e6)\nraise E",
    "power": "pow(7, 10**9)",
}
MEMORY: Table = {
    "memory-error": ("raise MemoryError", "memory"),
    "numpy": ("np.zeros(10**15)", "memory"),
    "bytes": ("bytes(10**15)", "memory"),
    "torch": ("torch.empty(10**15)", "memory"),
    "torch-error": ("raise torch.OutOfMemoryError('CUDA out of memory')", "memory"),
    "growing": ("x = []\nwhile True: x.append(np.zeros(2**28))", "memory"),
    "limit": ("resource.setrlimit(resource.RLIMIT_AS, (2**20, 2**33)); np.zeros(2**27)", "memory"),
}
RETURNED: Table = {
    "none": "return None",
    "text": "return 'z'",
    "object": "return object()",
    "generator": "return (x for x in z0)",
    "complex": "return (z0 * 1j) + z1",
    "integers": "return (z0 * 0).astype(int)",
    "dict": "return {}",
    "nan": "return z0 * np.nan",
    "wrong-shape": "return z0[0]",
    "array-raises": "class A:\n    def __array__(self, *a, **k): 1 / 0\nreturn A()",
    "array-exits": "class A:\n    def __array__(self, *a, **k): sys.exit(0)\nreturn A()",
    "array-dies": "class A:\n    def __array__(self, *a, **k): os._exit(0)\nreturn A()",
    "attribute-raises": "class A:\n    def __getattr__(self, name): raise RuntimeError(name)\nreturn A()",
    "attribute-exits": "class A:\n    def __getattribute__(self, name): sys.exit(0)\nreturn A()",
    "shape-raises": "class A(np.ndarray):\n    @property\n    def shape(self): 1 / 0\nreturn z0.view(A)",
    "subclass-lies": "class A(np.ndarray):\n    @property\n    def shape(self): return (1,)\nreturn z0.view(A)",
    "item-raises": "class A(np.ndarray):\n    def astype(self, *a, **k): 1 / 0\nreturn z0.view(A)",
    "equality-raises": "class A(np.ndarray):\n    def __array_finalize__(self, x): 1 / 0\nreturn z0.view(A)",
    "del-dies": "class A:\n    def __del__(self): os._exit(0)\nreturn A()",
}
STREAMS: Table = {
    "stdout-closed": ("sys.stdout.close()", "standard streams"),
    "stderr-closed": ("sys.stderr.close()", "standard streams"),
    "stdin-closed": ("sys.stdin.close()", "standard streams"),
    "stdout-none": ("sys.stdout = None", "standard streams"),
    "stdout-replaced": ("import io; sys.stdout = io.StringIO()", "standard streams"),
    "fd-0": ("os.close(0)", "standard streams"),
    "fd-1": ("os.close(1)", "standard streams"),
    "fd-2": ("os.close(2)", "standard streams"),
    "fds": ("os.closerange(0, 3)", "standard streams"),
}
PRINTED: Table = {
    "megabytes": "sys.stdout.write('x' * 10**5 + '\\n')",
    "escape-sequences": "print('\\x1b[2J')",
    "bytes": "os.write(1, b'\\xff\\xfe')",
    "json": 'print(\'{"status": "pass"}\')',
    "traceback": "import traceback; traceback.print_stack()",
    "del-raises": "class A:\n    def __del__(self): 1 / 0\nA()",
}
LEFT: Table = {
    "thread": ("threading.Thread(target=time.sleep, args=(1e6,)).start()", "thread"),
    "daemon-thread": ("threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()", "thread"),
    "busy-thread": ("threading.Thread(target=lambda: [time.sleep(0.01) for _ in iter(int, 1)]).start()", "thread"),
    "timer": ("threading.Timer(1e6, print).start()", "thread"),
    "process": "subprocess.Popen(['sleep', '1000'])",
    "fork": "if os.fork() == 0: time.sleep(1000)",
    "fork-continues": "os.fork()",
    "zombie": "if os.fork() == 0: os._exit(0)",
    "multiprocessing": "multiprocessing.get_context('fork').Process(target=time.sleep, args=(1e6,)).start()",
    "alarm": ("signal.alarm(1000)", "timer"),
    "atexit": "atexit.register(os._exit, 0)",
    "file": "open('/dev/null')",
}
STATE: Table = {
    "chdir": ("os.chdir('/')", "working directory"),
    "chdir-removed": ("with tempfile.TemporaryDirectory() as d: os.chdir(d)", "working directory"),
    "umask": ("os.umask(0o777)", "umask"),
    "environ": ("os.environ['DREAMER4_PEERS'] = 'x'", "environment"),
    "environ-cleared": ("os.environ.clear()", "environment"),
    "locale": (
        "locale.setlocale(locale.LC_ALL, 'C.UTF-8' if locale.setlocale(locale.LC_ALL) == 'C' else 'C')",
        "locale",
    ),
    "path-cleared": ("sys.path.clear()", "sys.path"),
    "module-removed": ("sys.modules.pop('json', None)", "sys.modules"),
    "module-none": ("sys.modules['time'] = None", "sys.modules"),
    "recursion-limit": ("sys.setrecursionlimit(len(__import__('inspect').stack()) + 60)", "recursion limit"),
    "excepthook": ("sys.excepthook = None", "sys.excepthook"),
    "trace": ("sys.settrace(lambda *_: None)", "sys.settrace"),
    "profile": ("sys.setprofile(lambda *_: None)", "sys.setprofile"),
    "garbage": ("gc.disable()", "garbage collector"),
    "warnings-error": ("warnings.simplefilter('error')", "warnings"),
    "warnings-shown": ("warnings.showwarning = None", "warnings.showwarning"),
    "logging": ("logging.disable(logging.CRITICAL)", "logging"),
    "signal-handler": ("signal.signal(signal.SIGINT, signal.SIG_IGN)", "signal handlers"),
    "seterr": ("np.seterr(all='raise')", "np.seterr"),
    "printoptions": ("np.set_printoptions(precision=1)", "np.set_printoptions"),
    "flush-denormal": ("torch.set_flush_denormal(True)", "flush"),
    "grad-mode": ("torch.set_grad_enabled(False)", "grad mode"),
    "inference-mode": ("self.context = torch.inference_mode(); self.context.__enter__()", "inference mode"),
    "autocast": ("torch.autocast('cpu', torch.bfloat16).__enter__()", "autocast"),
    "default-dtype": ("torch.set_default_dtype(torch.float64)", "default dtype"),
    "default-device": ("torch.set_default_device('meta')", "default device"),
    "num-threads": ("torch.set_num_threads(3)", "threads"),
    "deterministic": ("torch.use_deterministic_algorithms(True)", "deterministic"),
    "attributes": ("self.k_max = 3; self.dtype = 'x'; self.readings = None", "attributes of the adapter"),
    "class-attributes": ("Mine.k_max = 3; Mine.level = 'noise'", "attributes of the adapter"),
    "matmul-precision": ("torch.set_float32_matmul_precision('medium')", "matmul precision"),
}
IN_PLACE: Table = {
    "arguments": "z0 = z0.copy(); a = z1; z1 = z1.copy(); a[:] = 7",
    "tau": "t = tau; tau = tau.copy(); t[:] = 0",
}
RANDOM: Table = {
    "random-states": "random.seed(0); np.random.seed(0); torch.manual_seed(0)",
    "random-consumed": "random.random(); np.random.rand(7); torch.rand(5)",
}
PATCHED: Table = {
    "len": ("builtins.len = lambda x: 3", "builtins.len"),
    "isinstance": ("builtins.isinstance = lambda *_: True", "builtins.isinstance"),
    "print": ("builtins.print = None", "builtins.print"),
    "open": ("builtins.open = None", "builtins.open"),
    "time": ("time.time = lambda: 0.0", "time.time"),
    "perf-counter": ("time.perf_counter = None", "time.perf_counter"),
    "json-dumps": ("json.dumps = lambda *a, **k: '{}'", "json.dumps"),
    "os-getpid": ("os.getpid = None", "os.getpid"),
    "manual-seed": ("torch.manual_seed = lambda seed: None", "torch.manual_seed"),
    "from-numpy": ("torch.from_numpy = None", "torch.from_numpy"),
    "default-rng": ("np.random.default_rng = None", "default_rng"),
    "np-seed": ("np.random.seed = None", "numpy.random.seed"),
    "np-abs": ("np.abs = lambda x: x * 0", "numpy.abs"),
    "np-asarray": ("np.asarray = None", "numpy.asarray"),
    "hypothesis-given": ("hypothesis.given = None", "hypothesis.given"),
}
TAMPERED: Table = {
    "compare": "from dreamer4_conformance.judging.check import Trial\nTrial.compare = lambda *a, **k: None",
    "cases": "from dreamer4_conformance.judging.check import CHECKS\nCHECKS.clear()",
    "clauses": "from dreamer4_conformance.clauses import BY_ID\nBY_ID.clear()",
    "deviation": "from dreamer4_conformance import verdicts\nverdicts.Deviation.__init__ = None",
    "exit-status": "from dreamer4_conformance.report import Report\nReport.exit_status = 0",
    "call": "from dreamer4_conformance.instruments.subject import Subject\nSubject.compute = None",
}
DECLARED: Table = {
    "escape-sequence": "name = '\\x1b[2Jred'",
    "lone-surrogate": "name = 'a\\ud800b'",
    "newline": "name = 'a\\nb'",
    "markup": "name = '[bold]<script>|`'",
    "long": "name = 'x' * 10**5",
    "null-byte": "version = 'a\\0b'",
    "bidirectional": "name = 'a\\u202eb'",
    "str-subclass": "name = type('S', (str,), {'__str__': lambda self: 1 / 0})('x')",
    "repr-raises": "name = type('S', (str,), {'__repr__': lambda self: 1 / 0})('x')",
}
SETTINGS: Table = {
    "seterr": "np.seterr(all='raise')",
    "default-dtype": "torch.set_default_dtype(torch.float64)",
    "grad-mode": "torch.set_grad_enabled(False)",
    "warnings": "warnings.simplefilter('error')",
    "environ": "os.environ['HOSTILE'] = '1'",
    "chdir": "os.chdir('/')",
    "thread": "threading.Thread(target=time.sleep, args=(1e6,)).start()",
    "stdout-closed": "sys.stdout.close()",
    "fds-closed": "os.closerange(0, 3)",
    "printed": "print('\\x1b[2J' * 1000)",
    "atexit": "atexit.register(os._exit, 0)",
    "path": "sys.path.clear()",
    "exit-status": "from dreamer4_conformance.report import Report\nReport.exit_status = 0",
    "main-patched": "from dreamer4_conformance import cli\ncli.main = None",
    "np-alias": "np.float_ = np.float64",
    "recursion-limit": "sys.setrecursionlimit(10**5)",
    "signal-handler": "signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "json": "json.dumps = json.loads = None",
}
BEFORE: Table = {
    "exit-0": "sys.exit(0)",
    "exit-text": ("sys.exit('no GPU')", "no GPU"),
    "os-exit-0": ("os._exit(0)", "exit status 0"),
    "sigkill": ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    "sigsegv": ("ctypes.string_at(0)", "SIGSEGV"),
    "hang": ("time.sleep(1e6)", "did not return"),
    "keyboard-interrupt": "raise KeyboardInterrupt",
    "base-exception": "raise BaseException('base')",
    "str-raises": "class E(Exception):\n    def __str__(self): 1 / 0\nraise E",
    "surrogate": "raise ValueError('\\ud800\\x1b[2J')",
    "recursion": "f = lambda: f()\nf()",
    "memory": "raise MemoryError",
}
PROPERTIES: Table = {
    "raises": "k_max = property(lambda self: 1 / 0)",
    "exits": "k_max = property(lambda self: sys.exit(0))",
    "dies": "k_max = property(lambda self: os._exit(0))",
    "hangs": "k_max = property(lambda self: time.sleep(1e6))",
    "readings": "readings = property(lambda self: 1 / 0)",
    "getattribute": "def __getattribute__(self, name): raise SystemExit(0)",
    "failures": "expected_failures = property(lambda self: sys.exit(0))",
    "to-native-exits": "def to_native(self, x): sys.exit(0)",
    "to-native-dies": "def to_native(self, x): os._exit(0)",
    "to-numpy-hangs": "def to_numpy(self, x): time.sleep(1e6)",
    "to-numpy-raises": "def to_numpy(self, x): raise BaseException",
}
HELPERS: Table = {
    "to-numpy-dies-later": "n = 0\ndef to_numpy(self, x):\n    Mine.n += 1\n    if Mine.n > 9: os._exit(0)\n"
    "    return super().to_numpy(x)",
    "to-native-exits-later": "n = 0\ndef to_native(self, x):\n    Mine.n += 1\n    if Mine.n > 9: sys.exit(0)\n"
    "    return super().to_native(x)",
}
LATER: Table = {
    "exit-0": "sys.exit(0)",
    "os-exit-0": "os._exit(0)",
    "sigsegv": "ctypes.string_at(0)",
    "keyboard-interrupt": "raise KeyboardInterrupt",
    "closerange": "os.closerange(3, 1000)",
}

HOSTILE: dict[str, Hostile] = {
    hostile.id: hostile
    for entries in (
        _entries("exit", Outcome.FAILS, EXITS),
        _entries("signal", Outcome.FAILS, SIGNALS),
        _entries("recursion", Outcome.FAILS, RECURSION),
        _entries("raise", Outcome.FAILS, RAISED),
        _entries("raise", Outcome.NOT_PROVIDED, {"not-implemented": "raise NotImplementedError('later')"}),
        _entries("hang", Outcome.UNDECIDED, HANGS),
        _entries("memory", Outcome.UNDECIDED, MEMORY),
        _entries("return", Outcome.FAILS, RETURNED),
        _entries("stream", Outcome.NOTED, STREAMS),
        _entries("print", Outcome.HARMLESS, PRINTED),
        _entries("left", Outcome.NOTED, LEFT),
        _entries("state", Outcome.NOTED, STATE),
        _entries("in-place", Outcome.HARMLESS, IN_PLACE),
        _entries("random", Outcome.HARMLESS, RANDOM),
        _entries("patch", Outcome.NOTED, PATCHED),
        _entries("tamper", Outcome.FAILS, TAMPERED),
        _entries("declaration", Outcome.HARMLESS, DECLARED, "declaration"),
        _entries("setting", Outcome.HARMLESS, SETTINGS, "at_import", "TorchAdapter"),
        _entries("import", Outcome.REFUSED, BEFORE, "at_import"),
        _entries("constructor", Outcome.REFUSED, BEFORE, "constructor"),
        _entries("property", Outcome.REFUSED, PROPERTIES, "method"),
        _entries("helper", Outcome.BOTH_FAIL, HELPERS, "method"),
        _entries("later", Outcome.LAST_FAILS, LATER, "last"),
        _entries("later", Outcome.LAST_UNDECIDED, {"hang": "time.sleep(1e6)"}, "last"),
    )
    for hostile in entries
}
