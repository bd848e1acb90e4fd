"""A CPU with descriptor tables, for what the machine does itself."""

from __future__ import annotations

import pytest

from sandbox.engine.cpu import Cpu
from tests.machine.world import World


@pytest.fixture(scope="module")
def cpu() -> Cpu:
    return Cpu()


@pytest.fixture
def world(cpu: Cpu) -> World:
    return World(cpu)
