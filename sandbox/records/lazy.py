"""``dataclass`` and what goes with it, after ``dataclasses`` of Python 3.11 (its manual page says what each does).

What is left out: classes without ``__slots__``, keyword-only fields, InitVar.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from reprlib import recursive_repr
from typing import Any

from sandbox.records import write

MISSING = write.MISSING
FIELDS = "_record_fields"
WITHOUT_CODE = 3
"""Records of a class before its ``__init__`` is compiled: that takes as long as filling 30 of them without."""


class Field:
    """What is known of one attribute: ``dataclasses.Field`` without what nobody here asks for."""

    __slots__ = ("compare", "default", "default_factory", "init", "name", "repr", "type")

    def __init__(self, default: Any, default_factory: Any, init: bool, repr: bool, compare: bool) -> None:
        self.name = self.type = ""
        self.default, self.default_factory = default, default_factory
        self.init, self.repr, self.compare = init, repr, compare


def field(
    *, default: Any = MISSING, default_factory: Any = MISSING, init: bool = True, repr: bool = True,
    compare: bool = True,
) -> Any:  # fmt: skip
    """As ``dataclasses.field``."""
    return Field(default, default_factory, init, repr, compare)


def dataclass(
    *, slots: bool, frozen: bool = False, eq: bool = True, order: bool = False, repr: bool = True
) -> Callable[[type], type]:
    """As ``dataclasses.dataclass``, of classes with slots."""
    if not slots:
        raise TypeError("a record has slots")

    def decorate(cls: type) -> type:
        own = _own_fields(cls)
        _refuse_foreign(cls)
        known = {each.name: each for base in reversed(cls.__mro__[1:]) for each in base.__dict__.get(FIELDS, ())}
        made = _with_slots(cls, own, known)
        setattr(made, FIELDS, tuple({**known, **own}.values()))
        _add_methods(made, frozen, eq, repr)
        if order:
            _add_order(made)
        return made

    return decorate


def _refuse_foreign(cls: type) -> None:
    """Raises TypeError for a base whose fields are kept in the standard library's way."""
    for base in cls.__mro__[1:]:
        if "__dataclass_fields__" in base.__dict__ and FIELDS not in base.__dict__:
            raise TypeError(f"{cls.__name__}: {base.__name__} is a data class of the standard library")


def fields(of: Any) -> tuple[Any, ...]:
    """The fields of a record or of its class, inherited ones first."""
    cls = of if isinstance(of, type) else type(of)
    for base in cls.__mro__:
        if FIELDS in base.__dict__:
            return tuple(base.__dict__[FIELDS])
        if "__dataclass_fields__" in base.__dict__:  # the standard library's, which derives from a record
            return tuple(base.__dict__["__dataclass_fields__"].values())
    raise TypeError(f"{cls.__name__} is no record")


def replace(record: Any, /, **changes: Any) -> Any:
    """A record of the same class with some fields changed."""
    for each in fields(record):
        if each.init:
            if each.name not in changes:
                changes[each.name] = getattr(record, each.name)
        elif each.name in changes:
            raise ValueError(f"field {each.name} is declared with init=False, it cannot be specified with replace()")
    return record.__class__(**changes)


def asdict(record: Any) -> dict[str, Any]:
    """Names and values, records in them turned likewise, containers copied."""
    return {each.name: _plain(getattr(record, each.name)) for each in fields(record)}


def _plain(value: Any) -> Any:
    """``value`` without records."""
    kind: Any = type(value)
    if hasattr(kind, FIELDS):
        return asdict(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return kind(*map(_plain, value))
    if isinstance(value, list | tuple):
        return kind(map(_plain, value))
    if isinstance(value, dict):
        pairs = ((_plain(key), _plain(each)) for key, each in value.items())
        return kind(value.default_factory, pairs) if isinstance(value, defaultdict) else kind(pairs)
    return copy.deepcopy(value)


def _own_fields(cls: type) -> dict[str, Field]:
    """Of the annotations in a class's body."""
    found = {}
    for name, annotation in cls.__dict__.get("__annotations__", {}).items():  # noqa: RUF063 (the module is slow to import)
        if annotation.startswith("ClassVar"):
            continue
        given = cls.__dict__.get(name, MISSING)
        one = given if isinstance(given, Field) else Field(given, MISSING, True, True, True)
        one.name, one.type = name, annotation
        found[name] = one
    return found


def _with_slots(cls: type, own: dict[str, Field], known: dict[str, Field]) -> type:
    """The class once more: ``__slots__`` count only while a class is made."""
    body = {name: value for name, value in cls.__dict__.items() if name not in own}
    body.pop("__dict__", None)
    body.pop("__weakref__", None)
    body["__slots__"] = tuple(name for name in own if name not in known)
    made = type(cls)(cls.__name__, cls.__bases__, body)
    made.__qualname__ = cls.__qualname__
    return made


def _add_methods(cls: Any, frozen: bool, eq: bool, repr: bool) -> None:
    """What the class has not defined itself."""
    has = cls.__dict__
    cls._record_options = (frozen, eq, repr)
    cls.__dataclass_fields__, cls.__dataclass_params__ = _TWIN_FIELDS, _TWIN_PARAMS
    if "__init__" not in has:
        cls.__init__ = _first_inits(cls, frozen)
    if eq:
        hashed = has.get("__hash__")
        if "__eq__" not in has:
            cls.__eq__ = _at_first_use(cls, "__eq__", lambda: write.compare("__eq__", "==", _compared(cls)))
        if hashed is None:  # as the interpreter leaves it, or sets it beside an __eq__
            cls.__hash__ = _at_first_use(cls, "__hash__", lambda: write.hash_of(_compared(cls))) if frozen else None
    if repr and "__repr__" not in has:
        cls.__repr__ = _repr
    if "__match_args__" not in has:
        setattr(cls, "__match_args__", tuple(each.name for each in getattr(cls, FIELDS) if each.init))  # noqa: B010
    if frozen:
        cls.__setattr__, cls.__delattr__ = _refuse_to_set, _refuse_to_delete
        cls.__getstate__, cls.__setstate__ = _state, _set_state


def _add_order(cls: Any) -> None:
    for name, sign in (("__lt__", "<"), ("__le__", "<="), ("__gt__", ">"), ("__ge__", ">=")):
        written = partial(write.compare, name, sign, _compared(cls))
        setattr(cls, name, _at_first_use(cls, name, written))


def _at_first_use(cls: type, name: str, written: Callable[[], Any]) -> Any:
    """A method that puts the real one in its place, and calls it."""

    def method(*arguments: Any, **named: Any) -> Any:
        real = written()
        real.__qualname__ = f"{cls.__qualname__}.{name}"
        setattr(cls, name, real)
        return real(*arguments, **named)

    return method


def _first_inits(cls: Any, frozen: bool) -> Any:
    """``__init__`` that sets the fields of the first records one by one: most classes of a short run have no more."""
    left = WITHOUT_CODE

    def method(self: Any, *arguments: Any, **named: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0 or not write.fill(self, getattr(cls, FIELDS), arguments, named):
            cls.__init__ = real = write.init(cls, getattr(cls, FIELDS), frozen)
            real.__qualname__ = f"{cls.__qualname__}.__init__"
            real(self, *arguments, **named)

    method.__name__ = "__init__"
    return method


def _compared(cls: type) -> list[str]:
    return [each.name for each in getattr(cls, FIELDS) if each.compare]


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in getattr(self, FIELDS) if each.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _refuse_to_set(self: Any, name: str, value: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, each.name) for each in getattr(self, FIELDS)]


def _set_state(self: Any, state: list[Any]) -> None:
    for each, value in zip(getattr(self, FIELDS), state, strict=True):
        object.__setattr__(self, each.name, value)


class _Twin:
    """What the standard library keeps in its data classes, for its own functions: made when one of them asks."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, record: object, cls: type) -> Any:
        return getattr(_twin(cls), self.name)


_TWIN_FIELDS, _TWIN_PARAMS = _Twin("__dataclass_fields__"), _Twin("__dataclass_params__")


def _twin(cls: Any) -> Any:
    """A data class of the standard library with the same fields."""
    import dataclasses

    frozen, eq, repr = cls._record_options
    names = ("default", "default_factory", "init", "repr", "compare")
    of: list[tuple[str, Any, Any]] = []
    for each in getattr(cls, FIELDS):
        given = {name: getattr(each, name) for name in names if getattr(each, name) is not MISSING}
        of.append((each.name, each.type, dataclasses.field(**given)))
    return dataclasses.make_dataclass(cls.__name__, of, frozen=frozen, eq=eq, repr=repr)
