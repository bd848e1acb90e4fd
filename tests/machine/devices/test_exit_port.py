"""The exit port."""

from __future__ import annotations

from sandbox.machine.devices.exit_port import ExitPort
from tests.machine.devices.host import FakeHost


def test_the_first_value_is_the_status() -> None:
    host = FakeHost()
    port = ExitPort(host)
    assert port.status is None
    assert port.read_port(0, 1) == 0
    port.write_port(0, 4, 0x1203)
    port.write_port(0, 1, 7)
    assert port.status == 3
    assert host.stops == 2
