"""Frozen dataclasses from nested tables, as TOML and JSON have them, and back exactly.

Numbers keep their type: a float may be written as a whole number, nothing else is converted. What is absent has its
default. TOML has no null: where None is allowed, "none" means it.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dreamer4_impl.layers.actions import Binary, Categorical, Component, Continuous

Table = dict[str, Any]
T = TypeVar("T")

KINDS: dict[str, type[Component]] = {"categorical": Categorical, "binary": Binary, "continuous": Continuous}
_MEANING = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}


def to_table(value: Any) -> Any:
    """The value as JSON has it: dataclasses become tables, tuples lists, a component of an action has its kind.

    >>> to_table(Binary("keys", 4))
    {'kind': 'binary', 'name': 'keys', 'size': 4}
    """
    if is_dataclass(value) and not isinstance(value, type):
        kind = [name for name, cls in KINDS.items() if type(value) is cls]
        return dict(zip(["kind"], kind, strict=False)) | {
            field.name: to_table(getattr(value, field.name)) for field in fields(value)
        }
    if isinstance(value, tuple | list):
        return [to_table(part) for part in value]
    return value


def from_table(cls: type[T], table: object, where: str = "") -> T:
    """An object of a dataclass from a table.

    Args:
        cls: the dataclass. Its own `__post_init__` says what values it takes.
        table: its fields by name.
        where: what the table is called in sentences, such as "model.tokenizer"; "" is the whole configuration.

    >>> from_table(Binary, {"kind": "binary", "name": "keys", "size": "4"}, "action")
    Traceback (most recent call last):
    ValueError: action.size must be a whole number; got '4'
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"{where or 'the configuration'} must be a table; got {table!r}")
    table = dict(table)
    chosen: Any = _component(table, where) if cls is Component else cls
    if issubclass(chosen, Component):
        table.pop("kind", None)
    types = get_type_hints(chosen)
    required = {f.name for f in fields(chosen) if f.default is MISSING and f.default_factory is MISSING}
    _require_names(table, [f.name for f in fields(chosen)], required, where)
    values = {name: _value(types[name], value, _join(where, name)) for name, value in table.items()}
    try:
        return chosen(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


def merge(base: Table, over: Mapping[str, Any]) -> Table:
    """The base with what stands over it: tables are merged, everything else is replaced.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
    {'a': {'b': 1, 'c': 3}}
    """
    merged = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge(merged[name], value) if both else value
    return merged


def assignments(texts: Sequence[str]) -> Table:
    """A table from settings as they are typed; a value is read as TOML has it, or else as a string.

    >>> assignments(["optimiser.learning_rate=3e-4", "execution.device=cpu"])
    {'optimiser': {'learning_rate': 0.0003}, 'execution': {'device': 'cpu'}}
    """
    table: Table = {}
    for text in texts:
        path, equals, value = text.partition("=")
        names = [name.strip() for name in path.split(".")]
        if not equals or not all(names):
            raise ValueError(f"a setting is typed as section.key=value; got {text!r}")
        nested: Any = _typed(value.strip())
        for name in reversed(names):
            nested = {name: nested}
        table = merge(table, nested)
    return table


def unknown(name: str, known: Sequence[str], where: str = "") -> str:
    """A sentence about a name that is not known, with the nearest one that is.

    >>> unknown("stpes", ["steps", "seed"])
    "there is no setting 'stpes'; did you mean 'steps'?"
    """
    near = get_close_matches(name, known, n=1)
    advice = f"did you mean {_join(where, near[0])!r}?" if near else f"there are {', '.join(sorted(known))}"
    return f"there is no setting {_join(where, name)!r}; {advice}"


def _typed(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _require_names(table: Mapping[str, Any], known: Sequence[str], required: set[str], where: str) -> None:
    for name in table:
        if name not in known:
            raise ValueError(unknown(name, known, where))
    missing = sorted(required - set(table))
    if missing:
        raise ValueError(f"{where or 'the configuration'} must also say {', '.join(missing)}")


def _component(table: Mapping[str, Any], where: str) -> type[Component]:
    kind = table.get("kind")
    if kind not in KINDS:
        raise ValueError(f"{_join(where, 'kind')} must be one of {', '.join(map(repr, KINDS))}; got {kind!r}")
    return KINDS[kind]


def _value(wanted: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        if value is None or value == "none":
            return None
        (wanted,) = (part for part in arguments if part is not NoneType)
        return _value(wanted, value, where)
    if origin is tuple:
        return _items(arguments, value, where)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{where} must be one of {', '.join(map(repr, arguments))}; got {value!r}")
        return value
    if isinstance(wanted, type) and is_dataclass(wanted):
        return from_table(wanted, value, where)
    return _plain(wanted, value, where)


def _items(types: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} must be a list; got {value!r}")
    if types[-1] is Ellipsis:
        types = (types[0],) * len(value)
    if len(types) != len(value):
        raise ValueError(f"{where} must have {len(types)} values; got {value!r}")
    return tuple(_value(t, part, f"{where}[{i}]") for i, (t, part) in enumerate(zip(types, value, strict=True)))


def _plain(wanted: type, value: Any, where: str) -> Any:
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f"{where} must be {_MEANING[wanted]}; got {value!r}")
    return value
