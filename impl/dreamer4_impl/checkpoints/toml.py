"""Conversion between frozen dataclasses and nested tables, as TOML and JSON have them, exact in both directions.

Numbers keep their type: a float may be written as an integer, nothing else is converted. Absent fields take their
defaults. TOML has no null: where None is allowed, it is written "none".
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dreamer4_impl.layers.actions import KINDS, Component

Table = dict[str, Any]
T = TypeVar("T")

DEEPEST = 20
"""Names in the path of a setting; real ones have at most five."""

_MEANING = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}


def to_table(value: Any) -> Any:
    """Convert a value to JSON types.

    Args:
        value: dataclass, tuple, list, or a value that JSON has.

    Returns:
        Tables for dataclasses, with the key "kind" for components of an action; lists for tuples; else the value.

    Example:
        >>> from dreamer4_impl.layers.actions import Binary
        >>> to_table(Binary("keys", 4))
        {'kind': 'binary', 'name': 'keys', 'size': 4}
    """
    if is_dataclass(value) and not isinstance(value, type):
        kind = [name for name, cls in KINDS.items() if type(value) is cls]
        return dict(zip(["kind"], kind, strict=False)) | {
            field.name: to_table(getattr(value, field.name)) for field in fields(value)
        }
    if isinstance(value, tuple | list):
        return [to_table(item) for item in value]
    return value


def from_table(cls: type[T], table: object, where: str = "") -> T:
    """Create a dataclass from a table.

    Args:
        cls: the dataclass; its `__post_init__` checks ranges.
        table: fields by name.
        where: name of the table in messages, such as "model.tokenizer"; "" is the whole configuration.

    Returns:
        The object.

    Raises:
        ValueError: if a field is unknown, missing, of another type or out of range; the message has its full name.

    Example:
        >>> from dreamer4_impl.layers.actions import Binary
        >>> from_table(Binary, {"kind": "binary", "name": "keys", "size": "4"}, "action")
        Traceback (most recent call last):
        ValueError: action.size must be a whole number; got '4'
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"{where or 'the configuration'} must be a table; got {shown(table)}")
    table = dict(table)
    concrete: Any = _component(table, where) if cls is Component else cls
    if issubclass(concrete, Component):
        table.pop("kind", None)
    types = get_type_hints(concrete)
    required = {f.name for f in fields(concrete) if f.default is MISSING and f.default_factory is MISSING}
    _require_names(table, [f.name for f in fields(concrete)], required, where)
    values = {name: _value(types[name], value, _join(where, name)) for name, value in table.items()}
    try:
        return concrete(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


def merge(base: Table, over: Mapping[str, Any]) -> Table:
    """Merge two tables: nested tables are merged, everything else is replaced.

    Args:
        base: values of lower priority.
        over: values of higher priority.

    Returns:
        A new table.

    Example:
        >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
        {'a': {'b': 1, 'c': 3}}
    """
    merged = dict(base)
    for name, value in over.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge(merged[name], value) if nested else value
    return merged


def assignments(texts: Sequence[str]) -> Table:
    """Parse settings of the form section.key=value.

    Args:
        texts: settings; a value that is not valid TOML is a string.

    Returns:
        Nested table.

    Raises:
        ValueError: if a text has another form.

    Example:
        >>> assignments(["optimiser.learning_rate=3e-4", "execution.device=cpu"])
        {'optimiser': {'learning_rate': 0.0003}, 'execution': {'device': 'cpu'}}
    """
    table: Table = {}
    for text in texts:
        path, equals, value = text.partition("=")
        names = [name.strip() for name in path.split(".")]
        if not equals or not all(names) or len(names) > DEEPEST:
            raise ValueError(f"a setting must have the form section.key=value; got {shown(text)}")
        nested: Any = _typed(value.strip())
        for name in reversed(names):
            nested = {name: nested}
        table = merge(table, nested)
    return table


def flattened(table: Mapping[str, Any], separator: str = ".", prefix: str = "") -> list[tuple[str, Any]]:
    """List the values of a nested table.

    Args:
        table: nested table.
        separator: text between the names of a path.
        prefix: text in front of every path, its separator included.

    Returns:
        Paths and values, in the order of the table; empty tables have none.

    Example:
        >>> flattened({"steps": 3, "batches": {"size": 8}})
        [('steps', 3), ('batches.size', 8)]
    """
    values: list[tuple[str, Any]] = []
    for name, value in table.items():
        nested = isinstance(value, Mapping)
        values += flattened(value, separator, prefix + name + separator) if nested else [(prefix + name, value)]
    return values


def subtable(table: Mapping[str, Any], name: str, where: str = "") -> Table:
    """Look up a nested table.

    Args:
        table: the outer table.
        name: name of the nested table.
        where: name of the outer table in the message.

    Returns:
        A copy; empty if it is absent.

    Raises:
        ValueError: if the value is no table.

    Example:
        >>> subtable({"data": 3}, "data")
        Traceback (most recent call last):
        ValueError: data must be a table; got 3
    """
    value = table.get(name, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{_join(where, name)} must be a table; got {shown(value)}")
    return dict(value)


def shown(value: object) -> str:
    """Text of a value in a message.

    Args:
        value: any value.

    Returns:
        Its representation, of at most 200 characters.

    Example:
        >>> shown("x" * 1000).endswith("x…")
        True
    """
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # of nested tables, and of integers with thousands of digits
        text = f"a {type(value).__name__} that is too large to print"
    return text if len(text) <= 200 else f"{text[:199]}…"


def unknown_setting(name: str, settings: Sequence[str], where: str = "") -> str:
    """Message about a setting that does not exist.

    Args:
        name: name as it was written.
        settings: names that the table has.
        where: path of the table in the message, such as "batches"; empty for settings outside tables.

    Returns:
        Message with the most similar existing name, or all of them if none is similar.

    Example:
        >>> unknown_setting("stpes", ["steps", "seed"])
        "there is no setting 'stpes'; did you mean 'steps'?"
    """
    name = name if len(name) <= 200 else f"{name[:199]}…"
    similar = get_close_matches(name, settings, n=1)
    advice = f"did you mean {_join(where, similar[0])!r}?" if similar else f"there are {', '.join(sorted(settings))}"
    return f"there is no setting {_join(where, name)!r}; {advice}"


def _typed(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if len(table) == 1 else text


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _require_names(table: Mapping[str, Any], names: Sequence[str], required: set[str], where: str) -> None:
    for name in table:
        if name not in names:
            raise ValueError(unknown_setting(name, names, where))
    missing = sorted(required - set(table))
    if missing:
        raise ValueError(f"{where or 'the configuration'} must also have {', '.join(missing)}")


def _component(table: Mapping[str, Any], where: str) -> type[Component]:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{_join(where, 'kind')} must be one of {', '.join(map(repr, KINDS))}; got {shown(kind)}")
    return KINDS[kind]


def _value(wanted: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        if value is None or value == "none":
            return None
        (wanted,) = (argument for argument in arguments if argument is not NoneType)
        return _value(wanted, value, where)
    if origin is tuple:
        return _items(arguments, value, where)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{where} must be one of {', '.join(map(repr, arguments))}; got {shown(value)}")
        return value
    if isinstance(wanted, type) and is_dataclass(wanted):
        return from_table(wanted, value, where)
    return _plain(wanted, value, where)


def _items(types: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} must be a list; got {shown(value)}")
    if types[-1] is Ellipsis:
        types = (types[0],) * len(value)
    if len(types) != len(value):
        raise ValueError(f"{where} must have {len(types)} values; got {shown(value)}")
    return tuple(_value(t, item, f"{where}[{i}]") for i, (t, item) in enumerate(zip(types, value, strict=True)))


def _plain(wanted: type, value: Any, where: str) -> Any:
    if wanted is float and type(value) is int and abs(value) < 2**63:
        return float(value)
    if type(value) is int and abs(value) >= 2**63:
        raise ValueError(f"{where} must lie within 64 bits; got {shown(value)}")
    if type(value) is not wanted:
        raise ValueError(f"{where} must be {_MEANING[wanted]}; got {shown(value)}")
    return value
