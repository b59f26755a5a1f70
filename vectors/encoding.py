"""Vectors as JSON: floats as hexadecimal strings, arrays flat in row-major order, one argument or result per line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vectors.vector import Output, Range, Vector

SCHEMA = 1
"""Version of the format."""
BOUND_BITS = 8
"""Bits of the mantissa of a bound, which is rounded up."""


def hexadecimal(x: float) -> str:
    """Shortest hexadecimal form of a float.

    >>> hexadecimal(-1.5), hexadecimal(0.0), hexadecimal(float("nan"))
    ('-0x1.8p+0', '0x0p+0', 'nan')
    """
    text = float(x).hex()
    if "p" not in text:
        return text
    mantissa, exponent = text.split("p")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}p{exponent}"


def rounded_up(bound: float) -> float:
    """A bound with `BOUND_BITS` bits, not below the one passed in.

    >>> rounded_up(1.0), rounded_up(1.001)
    (1.0, 1.0078125)
    """
    mantissa, exponent = math.frexp(bound)
    return math.ldexp(math.ceil(mantissa * 2**BOUND_BITS), exponent - BOUND_BITS)


def array(x: np.ndarray | Range) -> dict[str, Any]:
    """An array as dtype, shape and data; a `Range` has no data."""
    if isinstance(x, Range):
        return {"dtype": "float", "shape": list(x.shape), "range": True}
    dtype = {"f": "float", "i": "int", "b": "bool"}[x.dtype.kind]
    data = [hexadecimal(item) for item in x.ravel()] if dtype == "float" else x.ravel().tolist()
    return {"dtype": dtype, "shape": list(x.shape), "data": data}


def value(x: Any) -> Any:
    """An input of a vector as JSON."""
    if isinstance(x, np.ndarray | Range):
        return array(x)
    if isinstance(x, float):
        return hexadecimal(x)
    if isinstance(x, Mapping):
        return {name: value(item) for name, item in x.items()}
    return [value(item) for item in x] if isinstance(x, list | tuple) else x


def output(x: Output) -> dict[str, Any]:
    """A result as an array with its bound; null stands for a result that is free."""
    encoded = array(x.value)
    if x.free is not None:
        encoded["data"] = [
            None if free else item for item, free in zip(encoded["data"], x.free.ravel().tolist(), strict=True)
        ]
    if x.bound is not None:
        bounds = [hexadecimal(rounded_up(bound)) for bound in np.broadcast_to(x.bound, np.shape(x.value)).ravel()]
        encoded["bound"] = bounds[0] if len(set(bounds)) == 1 else bounds
    return encoded


def vector(x: Vector) -> dict[str, Any]:
    """A vector as JSON."""
    return {
        "id": x.id,
        "operation": x.operation,
        "clause": x.clause,
        "flags": sorted(x.flags),
        "readings": {name: list(names) for name, names in x.readings.items()},
        "settings": value(x.settings),
        "inputs": value(x.inputs),
        "outputs": {name: output(item) for name, item in x.outputs.items()},
    }


def document(subject: str, source: str, vectors: Iterable[Vector]) -> dict[str, Any]:
    """The file of one subject as JSON."""
    head = {"$schema": "./schema.json", "schema": SCHEMA, "paper": "arXiv:2509.24527v1"}
    return {**head, "subject": subject, "source": source, "vectors": [vector(x) for x in vectors]}


def text(encoded: Mapping[str, Any]) -> str:
    """A document as text that can be reviewed: a line for each field, argument and result."""
    head = "".join(f" {_line(name)}: {_line(item)},\n" for name, item in encoded.items() if name != "vectors")
    body = ",\n".join(_vector_text(item) for item in encoded["vectors"])
    return f'{{\n{head} "vectors": [\n{body}\n ]\n}}\n'


def _vector_text(encoded: Mapping[str, Any]) -> str:
    fields = []
    for name, item in encoded.items():
        if name in ("inputs", "outputs") and item:
            lines = ",\n".join(f"    {_line(key)}: {_line(inner)}" for key, inner in item.items())
            fields.append(f"   {_line(name)}: {{\n{lines}\n   }}")
        else:
            fields.append(f"   {_line(name)}: {_line(item)}")
    return "  {\n" + ",\n".join(fields) + "\n  }"


def _line(x: Any) -> str:
    return json.dumps(x, ensure_ascii=False, separators=(",", ":"))


def decode(encoded: Any) -> Any:
    """An input as Python: arrays as NumPy, hexadecimal strings as floats, names as they are."""
    if isinstance(encoded, str):
        return _number(encoded)
    if isinstance(encoded, list):
        return [decode(item) for item in encoded]
    if not isinstance(encoded, Mapping):
        return encoded
    return decode_array(encoded) if "shape" in encoded else {name: decode(item) for name, item in encoded.items()}


def decode_array(encoded: Mapping[str, Any]) -> np.ndarray:
    """An array or a result as NumPy; NaN or 0 where a result is free."""
    shape, dtype = tuple(encoded["shape"]), encoded["dtype"]
    if encoded.get("range"):
        return np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    if dtype == "float":
        return np.array([math.nan if x is None else float.fromhex(x) for x in encoded["data"]]).reshape(shape)
    return np.array([x or 0 for x in encoded["data"]], bool if dtype == "bool" else np.int64).reshape(shape)


def decode_bound(encoded: Mapping[str, Any]) -> np.ndarray:
    """The bound of a result, of its shape or a scalar; 0 if it is exact."""
    bound = encoded.get("bound", "0x0p+0")
    if isinstance(bound, str):
        return np.array(float.fromhex(bound))
    return np.array([float.fromhex(x) for x in bound]).reshape(encoded["shape"])


def decode_free(encoded: Mapping[str, Any]) -> np.ndarray:
    """True where every result is right, of the result's shape."""
    data = encoded.get("data", [])
    return np.array([x is None for x in data], bool).reshape(encoded["shape"]) if None in data else np.array(False)


def _number(x: str) -> float | str:
    return float.fromhex(x) if x.lstrip("-").startswith(("0x", "nan", "inf")) else x
