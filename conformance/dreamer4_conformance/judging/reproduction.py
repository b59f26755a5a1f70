"""The call that failed, and Python that repeats it when pasted.

The call is repeated if its arrays are small enough to be read and its result, or what the network was called with,
shows the numbers of the failure. Everything else (laws of many draws, gradients, black boxes) is judged again.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from hypothesis.errors import UnsatisfiedAssumption

from dreamer4_conformance.instruments.subject import Evaluation, Invocation, Subject
from dreamer4_conformance.verdicts import Deviation, Result

LARGEST = 64
"""Elements of an array that is written as a literal."""
BRIEF = 16
"""Elements of an array that is printed in a call."""
IMPORTS = {
    "np.": "import numpy as np",
    "check_implementation(": "from dreamer4_conformance import check_implementation",
    "load(": "from dreamer4_conformance.adapters.importing import load",
    "examine(": "from dreamer4_conformance.adapters.validation import examine",
    "BY_ID[": "from dreamer4_conformance.clauses import BY_ID",
    "AnalyticNetwork(": "from dreamer4_conformance.instruments.recorder import AnalyticNetwork",
    "Draw(": "from dreamer4_conformance.instruments.subject import Draw",
}
"""Text in the code → the import that it needs, in the order of an import block."""
SHOW_CALLS = """\
for call in evaluation.calls:
    print("tau", call.tau, "d", call.d, "actions", call.actions)
    print("z", call.z, "z1_hat", call.output, "gradient", call.gradient)"""


def reproduction(subject: Subject, result: Result, profile: str, seed: int) -> str:
    """Write the code.

    Args:
        subject: the implementation.
        result: its failure of a clause.
        profile: profile of the run.
        seed: seed of the run.

    Returns:
        Lines of Python. An adapter that no import finds is called `adapter`.
    """
    body = _repeated_call(subject, result) or _judged_again(subject, result, profile, seed)
    needed = [line for text, line in IMPORTS.items() if text in body]
    return "\n".join([*needed, "", body])


def described_call(subject: Subject, result: Result) -> str:
    """The failing call with its arguments by name, in six digits.

    Args:
        subject: the implementation.
        result: its failure.

    Returns:
        The call, with the τ, d and noise that a loss drew itself, as its student received them; the call that the check
        states if its last call alone does not show the failure.
    """
    invocation = subject.failing
    if invocation is None or invocation.result is None:
        return result.call
    if isinstance(invocation.result, Evaluation):
        return _described_loss(invocation.result) if result.call == invocation.result.call else result.call
    if not _shows(invocation, result):
        return result.call
    return f"{invocation.operation}({_by_name(invocation.arguments)})"


def _described_loss(evaluation: Evaluation) -> str:
    draw = evaluation.draw
    call = f"{evaluation.route}(network, {_by_name({'z1': draw.z1, 'actions': draw.actions})}, "
    if evaluation.route == "dynamics_loss_at":
        return f"{call}{_by_name({'z0': draw.z0, 'tau': draw.tau, 'd': draw.d})})"
    call += f"seed={draw.seed})"
    try:
        matches = sorted(evaluation.students, key=lambda match: match.row)
    except (Deviation, UnsatisfiedAssumption):
        return call
    tau, d, z = (np.stack([getattr(match.student, name) for match in matches]) for name in ("tau", "d", "z"))
    level, z1 = tau[:, :, None, None], draw.z1[[match.row for match in matches]]
    with np.errstate(all="ignore"):
        return f"{call}, which draws {_by_name({'tau': tau, 'd': d, 'z0': (z - level * z1) / (1 - level)})}"


def _by_name(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_brief(value)}" for name, value in arguments.items())


def _brief(value: Any) -> str:
    """A value in six digits; of a large array, its shape."""
    if isinstance(value, np.ndarray) and value.size > BRIEF:
        return f"<{'x'.join(map(str, value.shape))}>"
    if isinstance(value, np.ndarray | np.generic):
        return _brief(value.tolist())
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_brief, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _adapter(subject: Subject) -> str:
    return "adapter" if subject.target is None else f"load({subject.target!r})"


def _judged_again(subject: Subject, result: Result, profile: str, seed: int) -> str:
    settings = "" if (profile, seed) == ("ci", 0) else f", profile={profile!r}, seed={seed}"
    call = f"check_implementation({_adapter(subject)}, [BY_ID[{result.id!r}]]{settings})"
    return f"[result] = {call}\nprint(result.message)\nprint(result.got, result.expected)"


def _repeated_call(subject: Subject, result: Result) -> str | None:
    """The failing call; None if its arrays are too large, or its result does not show the failure."""
    invocation = subject.failing
    if invocation is None or any(array.size > LARGEST for array in _arrays([*invocation.arguments.values()])):
        return None
    device = "" if subject.adapter.device == "cpu" else f", device={subject.adapter.device!r}"
    examined = f"examine({_adapter(subject)}, dtype={subject.adapter.dtype!r}{device})"
    arguments = ", ".join(f"{name}={literal(value)}" for name, value in invocation.arguments.items())
    if invocation.method == "evaluate":
        call = f"evaluation = subject.evaluate({invocation.operation!r}, {arguments})"
        return f"subject = {examined}\n{call}\nprint(evaluation.loss)\n{SHOW_CALLS}"
    if invocation.result is None or not _shows(invocation, result):
        return None
    positional = ", ".join(literal(value) for value in invocation.arguments.values())
    lines = [f"subject = {examined}", f"print(subject.compute({invocation.operation!r}, {positional}))"]
    if result.expected is not None:
        lines.append(f"# expected: {result.expected}")
    return "\n".join(lines)


def _shows(invocation: Invocation, result: Result) -> bool:
    """True if the result of the call contains what the failure reports as received."""
    try:
        got = np.asarray(result.got, np.float64)
    except (TypeError, ValueError):
        return False
    returned = np.asarray(invocation.result, np.float64)
    return bool(got.size and np.isin(got[np.isfinite(got)], returned).all())


def _arrays(values: list[Any]) -> list[np.ndarray]:
    """All arrays in arguments, lists and dataclasses."""
    arrays: list[np.ndarray] = []
    for value in values:
        if isinstance(value, np.ndarray):
            arrays.append(value)
        elif isinstance(value, list | tuple):
            arrays.extend(_arrays(list(value)))
        elif is_dataclass(value):
            arrays.extend(_arrays([getattr(value, field.name) for field in fields(value)]))
    return arrays


def literal(value: Any) -> str:
    """An argument as Python; a number that a float32 holds exactly is written with the digits of a float32.

    >>> literal(np.array([0.5, np.float32(0.1)])), literal(None)
    ('np.array([0.5, 0.1])', 'None')
    """
    if isinstance(value, np.ndarray):
        return f"np.array({_numbers(value.tolist())})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if is_dataclass(value):
        changed = [field for field in fields(value) if getattr(value, field.name) is not field.default]
        return f"{type(value).__name__}({', '.join(f'{f.name}={literal(getattr(value, f.name))}' for f in changed)})"
    return _numbers(value)


def _numbers(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_numbers, value))}]"
    if isinstance(value, float) and not np.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, float):
        single = np.float32(value)
        return str(single) if float(single) == value else repr(value)
    return repr(value)
