"""Who executes a vector: this host's CPU, and the sandbox's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.semantics.emulated import SandboxCpu
from sandbox.semantics.host import HostCpu, NoHost
from sandbox.semantics.vector import Oracle


@pytest.fixture(scope="module", params=["host", "sandbox"])
def oracle(request: pytest.FixtureRequest) -> Iterator[Oracle]:
    """Each of the two in turn; skipped where this host cannot run 32-bit code."""
    try:
        host = HostCpu()
    except NoHost as error:
        pytest.skip(error.summary)
    made: Oracle = host if request.param == "host" else SandboxCpu(host.low)
    if made is not host:
        host.close()
    yield made
    made.close()
