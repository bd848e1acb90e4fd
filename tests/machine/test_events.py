"""The event bus: typed subscription, nothing with no reader."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from sandbox.machine.events import CpuSwitch, Event, EventBus, PortAccess, TrapTaken


@dataclass(slots=True)
class Copied(Event):
    data: bytes
    path: tuple[int, ...]


def out(port: int) -> PortAccess:
    return PortAccess(5, 0, port, 1, True, 0x41, "serial")


def test_inactive_without_readers() -> None:
    bus = EventBus()
    assert not bus.active
    end = bus.subscribe(lambda event: None)
    assert bus.active
    end()
    assert not bus.active
    end()


def test_readers_get_their_types_in_order_of_subscription() -> None:
    bus = EventBus()
    seen: list[str] = []
    bus.subscribe(lambda event: seen.append(f"all {type(event).__name__}"))
    bus.subscribe(lambda event: seen.append(f"port {event.port:#x}"), PortAccess)
    bus.subscribe(lambda event: seen.append("either"), PortAccess, CpuSwitch)
    bus.emit(out(0x3F8))
    bus.emit(CpuSwitch(6, 1, 0))
    bus.emit(TrapTaken(7, 0, 14, 2, 0x1000, 0x100000, 0, False))
    assert seen == ["all PortAccess", "port 0x3f8", "either", "all CpuSwitch", "either", "all TrapTaken"]


def test_a_base_type_reads_subclasses() -> None:
    bus = EventBus()
    seen: list[Event] = []
    bus.subscribe(seen.append, Event)
    bus.emit(out(1))
    assert seen == [out(1)]


def test_wants() -> None:
    bus = EventBus()
    assert not bus.wants(PortAccess)
    end = bus.subscribe(lambda event: None, PortAccess)
    assert bus.wants(PortAccess)
    assert not bus.wants(CpuSwitch)
    end()
    assert not bus.wants(PortAccess)


def test_a_reader_may_end_itself() -> None:
    bus = EventBus()
    seen: list[int] = []

    def once(event: PortAccess) -> None:
        seen.append(event.port)
        end()

    end = bus.subscribe(once, PortAccess)
    bus.subscribe(lambda event: seen.append(-event.port), PortAccess)
    bus.emit(out(1))
    bus.emit(out(2))
    assert seen == [1, -1, -2]


def test_a_reader_s_error_is_not_swallowed() -> None:
    bus = EventBus()

    def fails(event: Event) -> None:
        raise RuntimeError("reader")

    bus.subscribe(fails)
    with pytest.raises(RuntimeError, match="reader"):
        bus.emit(out(1))


def test_to_dict_is_json() -> None:
    assert out(0x3F8).to_dict() == {
        "event": "PortAccess", "time": 5, "cpu": 0, "port": 0x3F8, "size": 1, "write": True, "value": 0x41,
        "device": "serial",
    }  # fmt: skip
    told = Copied(1, 2, b"\x01\xff", (3, 4)).to_dict()
    assert json.loads(json.dumps(told)) == {
        "event": "Copied",
        "time": 1,
        "cpu": 2,
        "data": "01ff",
        "path": [3, 4],
    }
