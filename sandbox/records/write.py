"""A record's methods: their source, compiled, and what sets the fields without code of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

MISSING: Final = object()


def init(cls: type, fields: Iterable[Any], frozen: bool) -> Any:
    """``__init__(self, …)`` of these fields, in their order."""
    names: dict[str, Any] = {"_missing": MISSING, "_set": object.__setattr__}
    parameters, body = ["self"], []
    for number, each in enumerate(fields):
        value = _value(each, number, names)
        if each.init:
            parameters.append(each.name + _default(each, number, names))
        if value:
            body.append(f"_set(self, {each.name!r}, {value})" if frozen else f"self.{each.name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    return _compiled(f"def __init__({', '.join(parameters)}):", body or ["pass"], names)


def fill(record: Any, fields: Iterable[Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Do what ``init``'s code would do.  False, with nothing done, if the arguments do not fit."""
    taken = [each for each in fields if each.init]
    given = dict(zip((each.name for each in taken), arguments, strict=False))
    if len(given) < len(arguments) or given.keys() & named or not named.keys() <= {each.name for each in taken}:
        return False
    given.update(named)
    if any(each.name not in given and each.default is MISSING is each.default_factory for each in taken):
        return False
    for each in fields:
        if each.name in given:
            object.__setattr__(record, each.name, given[each.name])
        elif each.default_factory is not MISSING:
            object.__setattr__(record, each.name, each.default_factory())
        elif each.default is not MISSING:
            object.__setattr__(record, each.name, each.default)
    if hasattr(record, "__post_init__"):
        record.__post_init__()
    return True


def compare(method: str, sign: str, names: list[str]) -> Any:
    """``__eq__`` and its like: the same class, and these attributes compared in their order."""
    both = (f"({''.join(f'{who}.{name}, ' for name in names)})" for who in ("self", "other"))
    body = ["if other.__class__ is self.__class__:", f" return {f' {sign} '.join(both)}", "return NotImplemented"]
    return _compiled(f"def {method}(self, other):", body, {})


def hash_of(names: list[str]) -> Any:
    """``__hash__`` of these attributes."""
    return _compiled("def __hash__(self):", [f"return hash(({''.join(f'self.{name}, ' for name in names)}))"], {})


def _default(field: Any, number: int, names: dict[str, Any]) -> str:
    """What follows the parameter's name."""
    if field.default is not MISSING:
        names[f"_default_{number}"] = field.default
        return f"=_default_{number}"
    return "=_missing" if field.default_factory is not MISSING else ""


def _value(field: Any, number: int, names: dict[str, Any]) -> str:
    """What the attribute is set to; empty if somebody else sets it."""
    if field.default_factory is not MISSING:
        names[f"_make_{number}"] = field.default_factory
        made = f"_make_{number}()"
        return f"{made} if {field.name} is _missing else {field.name}" if field.init else made
    if field.init:
        return str(field.name)
    if field.default is MISSING:
        return ""
    names[f"_default_{number}"] = field.default
    return f"_default_{number}"


def _compiled(head: str, body: list[str], names: dict[str, Any]) -> Any:
    local: dict[str, Any] = {}
    exec("\n ".join((head, *body)), names, local)
    (method,) = local.values()
    return method
