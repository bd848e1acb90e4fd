"""Records against ``dataclasses`` of the standard library: the same class body, decorated by either."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import operator
import pickle
import pkgutil
import subprocess
import sys
from collections import defaultdict, namedtuple
from importlib import import_module
from typing import Any, ClassVar

import pytest

import sandbox
from sandbox.records import asdict, dataclass, field, fields, replace, write
from sandbox.records.lazy import WITHOUT_CODE

SAID = ("name", "type", "default", "default_factory", "init", "repr", "compare")
Pair = namedtuple("Pair", "a b")


def bodies(dataclass: Any, field: Any) -> dict[str, Any]:
    """Some classes of every shape that the package uses."""

    @dataclass(slots=True)
    class Base:
        """A base."""

        count: ClassVar[int] = 3
        first: int
        second: str = "s"
        listed: list[int] = field(default_factory=list)

    @dataclass(slots=True)
    class Derived(Base):
        third: Any = None
        second: str = "other"
        late: int = field(init=False)
        quiet: int = field(default=7, compare=False, repr=False)

        def __post_init__(self) -> None:
            self.late = self.first + 1

    @dataclass(frozen=True, slots=True)
    class Frozen:
        a: int
        b: Any = ()
        unseen: int = field(default=0, compare=False)

        @property
        def double(self) -> int:
            return 2 * self.a

    @dataclass(slots=True, eq=False)
    class ByIdentity:
        set: int
        self_: int = 0

    @dataclass(frozen=True, slots=True, eq=False, repr=False)
    class Silent:
        a: int = 1
        made: int = field(default=5, init=False)

    @dataclass(slots=True)
    class Own:
        a: int

        def __eq__(self, other: object) -> bool:
            return True

        def __repr__(self) -> str:
            return "own"

    @dataclass(frozen=True, slots=True)
    class Hashed:
        a: int

        def __hash__(self) -> int:
            return 5

    @dataclass(frozen=True, slots=True, order=True)
    class Ordered:
        a: int
        b: str = "x"
        unseen: int = field(default=0, compare=False)

    @dataclass(slots=True)
    class Empty:
        pass

    class Plain(Derived):
        """No data class itself."""

    found = (Base, Derived, Frozen, ByIdentity, Silent, Own, Hashed, Ordered, Empty, Plain)
    return {each.__name__: each for each in found}


OURS, THEIRS = bodies(dataclass, field), bodies(dataclasses.dataclass, dataclasses.field)
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Base", (1,), {}), ("Base", (1, "x", [2]), {}), ("Base", (), {"first": 3}), ("Base", (), {}),
    ("Base", (1,), {"no": 2}), ("Derived", (1,), {}), ("Derived", (1, "b", [], 4, 5), {}),
    ("Derived", (1,), {"late": 3}), ("Derived", (1,), {"quiet": 3}), ("Frozen", (1,), {}),
    ("Frozen", (1, (2, 3), 4), {}), ("Frozen", (1, []), {}), ("Frozen", (), {}), ("ByIdentity", (1,), {}),
    ("ByIdentity", (), {"set": 2, "self_": 3}), ("Silent", (), {}), ("Silent", (4,), {}), ("Silent", (4, 5), {}),
    ("Own", (1,), {}), ("Hashed", (1,), {}), ("Empty", (), {}), ("Empty", (1,), {}), ("Plain", (8,), {}),
]  # fmt: skip


def outcome(act: Any) -> Any:
    """What it came to, or the kind of error."""
    try:
        return act()
    except Exception as error:
        return type(error)


def facts(cls: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
    """All that can be seen of one object, and beside a second and a different one."""
    one, same = (outcome(lambda: cls(*arguments, **named)) for _ in range(2))
    if isinstance(one, type):
        return [one]
    shown, first = repr(one), next((each.name for each in dataclasses.fields(cls)), "none")
    return [
        shown if "object at" not in shown else "by address",
        [getattr(one, each.name) for each in dataclasses.fields(cls)],
        (one == same, one != same, one == 5),
        outcome(lambda: hash(one) == hash(same)),
        cls.__match_args__,
        outcome(lambda: setattr(one, first, 3)),
        outcome(lambda: delattr(one, first)),
        hasattr(one, "__dict__"),
        (same == copy.copy(same), copy.deepcopy(same) == same),
        [cls.__qualname__.rpartition(".")[2], cls.__init__.__name__],
    ]


@pytest.mark.parametrize(("name", "arguments", "named"), CALLS)
def test_an_object_is_as_the_standard_librarys(name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    """The first ones are filled without compiled code, later ones with it."""
    ours, wanted = bodies(dataclass, field)[name], facts(THEIRS[name], arguments, named)
    for _ in range(WITHOUT_CODE):
        assert facts(ours, arguments, named) == wanted


@pytest.mark.parametrize("sign", [operator.lt, operator.le, operator.gt, operator.ge])
def test_order(sign: Any) -> None:
    said = []
    for classes in (OURS, THEIRS):
        made = [classes["Ordered"](*each) for each in ((1,), (1, "y"), (1, "x", 9), (2, "a"), (0, "z"))]
        said.append([outcome(lambda one=one, two=two: sign(one, two)) for one in (*made, 5) for two in (*made, 5)])
        assert outcome(lambda c=classes: sign(c["Frozen"](1), c["Frozen"](2))) is TypeError
    assert said[0] == said[1]


def test_a_repr_names_itself_but_once() -> None:
    for classes in (OURS, THEIRS):
        one = classes["Base"](1)
        one.listed.append(one)
        assert repr(one).endswith("Base(first=1, second='s', listed=[...])")


@pytest.mark.parametrize("name", ["Base", "Derived", "Frozen", "ByIdentity", "Silent", "Hashed", "Plain"])
def test_the_standard_librarys_functions_know_it(name: str) -> None:
    ours, theirs = OURS[name], THEIRS[name]
    assert dataclasses.is_dataclass(ours)
    said = [
        [(f.name, f.type, f.default, f.init, f.repr, f.compare) for f in dataclasses.fields(c)] for c in (ours, theirs)
    ]
    assert said[0] == said[1]
    assert [(f.name, f.type) for f in fields(ours)] == [(f.name, f.type) for f in dataclasses.fields(theirs)]
    assert dataclasses.asdict(ours(1)) == dataclasses.asdict(theirs(1)) == asdict(ours(1))


def test_a_data_class_of_the_standard_library_may_derive_from_one() -> None:
    @dataclasses.dataclass(slots=True)
    class Further(OURS["Derived"]):  # type: ignore[misc]
        more: int = 1

    assert replace(Further(1), more=5).more == 5
    assert dataclasses.asdict(Further(1, more=4)) == asdict(Further(1, more=4)) == {
        "first": 1, "second": "other", "listed": [], "third": None, "late": 2, "quiet": 7, "more": 4
    }  # fmt: skip


def test_one_may_not_derive_from_a_data_class_of_the_standard_library() -> None:
    """Its fields would be lost."""
    with pytest.raises(TypeError, match="Base"):

        @dataclass(slots=True)
        class Further(THEIRS["Base"]):  # type: ignore[misc]
            more: int = 1


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Base", {"first": 9}),
        ("Base", {"no": 1}),
        ("Derived", {"late": 4}),
        ("Derived", {"third": 4}),
        ("Frozen", {"b": 2}),
    ],
)
def test_replace(name: str, changes: dict[str, Any]) -> None:
    ours = outcome(lambda: asdict(replace(OURS[name](1), **changes)))
    assert ours == outcome(lambda: dataclasses.asdict(dataclasses.replace(THEIRS[name](1), **changes)))


def test_asdict_goes_down() -> None:
    def nested(classes: dict[str, Any]) -> Any:
        inner = classes["Frozen"](1, {"k": classes["Empty"]()})
        return classes["Frozen"](2, [inner, (inner, 3), Pair(inner, 4), {5}])

    made = asdict(nested(OURS))
    assert made == dataclasses.asdict(nested(THEIRS))
    assert type(made["b"][2]) is Pair
    counted = asdict(OURS["Frozen"](1, defaultdict(int, a=1)))["b"]
    assert type(counted) is defaultdict and counted["b"] == 0, "as of Python 3.12; 3.11's own raises TypeError"


@dataclass(frozen=True, slots=True)
class Sent:
    """Known by its name, as pickle needs it."""

    a: int
    b: list[int] = field(default_factory=list)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_it_travels_between_processes(protocol: int) -> None:
    assert pickle.loads(pickle.dumps(Sent(1, [2]), protocol)) == Sent(1, [2])


def every_record() -> list[Any]:
    """Of the whole package."""
    found: dict[str, Any] = {}
    for module in pkgutil.walk_packages(sandbox.__path__, "sandbox."):
        if module.name != "sandbox.__main__":
            there = vars(import_module(module.name)).values()
            found |= {f"{one.__module__}.{one.__qualname__}": one for one in there if is_record(one)}
    return [found[name] for name in sorted(found)]


def is_record(one: Any) -> bool:
    return isinstance(one, type) and "_record_options" in vars(one)


def parameters(function: Any) -> list[tuple[str, bool]]:
    """Names, and which must be given."""
    return [(each.name, each.default is each.empty) for each in inspect.signature(function).parameters.values()]


def test_every_record_of_the_package_takes_what_its_twin_takes() -> None:
    """Its twin: the data class of the standard library with these fields."""
    records = every_record()
    assert len(records) > 150
    for record in records:
        if "__init__" in vars(record):
            twin = dataclasses.make_dataclass("Twin", [(f.name, f.type, f) for f in dataclasses.fields(record)])
            frozen, _, _ = record._record_options
            assert parameters(write.init(record, fields(record), frozen)) == parameters(twin.__init__), record


def test_a_run_does_without_the_standard_librarys() -> None:
    """It and what it imports (inspect, ast, dis, tokenize) cost a short run 40 ms."""
    check = "import sys, sandbox.cli.run, sandbox.runner.run; sys.exit('dataclasses' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], timeout=60, check=False).returncode == 0
