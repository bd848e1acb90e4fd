"""Images with nothing recorded: pages are then filled, and copied, on the way out, and nothing else is different."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.engine.stubs import native_host
from sandbox.image.build import manifests
from sandbox.image.manifest import Manifest
from sandbox.kernel.drivers.console import BytesSource
from sandbox.runner.run import open_session
from sandbox.runner.session import Streams
from sandbox.runner.target import resolve
from sandbox.x86.paging import PAGE_SHIFT
from tests import ram

pytestmark = pytest.mark.skipif(not native_host(), reason="the way out is x86-64 Linux code")
IMAGES = [each for each in manifests() if not each.helper and each.kind != "rom"]


def came_to(manifest: Manifest, on_the_way: bool) -> dict[str, Any]:
    """Result, clock, counts, and all of RAM but the pages of kernel stacks, where what was popped is left behind."""
    target = resolve(manifest.path)
    with open_session(target, target.config(time_limit=0), Streams(BytesSource(manifest.stdin.encode()))) as session:
        kernel, stacks = session.kernel, set[int]()
        if not on_the_way:
            session.system.traps._ways_out = (None,) * len(kernel.cpus)
        for cpu in kernel.cpus:
            go_out = cpu.vcpu.go_ahead

            def noted(context: Any, budget: int, blocks: int, go_out: Any = go_out, cpu: Any = cpu) -> None:
                stacks.add(cpu.kstack.frame)
                go_out(context, budget, blocks)

            cpu.vcpu.go_ahead = noted  # type: ignore[method-assign]
        result = session.finish()
        return {
            "status": (result.status, result.signal, result.error),
            "stdout": result.stdout,
            "clock": kernel.clock.machine,
            "calls": [cpu.calls for cpu in kernel.cpus],
            "stats": kernel.stats,
            "flushes": kernel.tlb.counters,
            "pages": ram.pages(kernel.memory),
            "stacks": stacks,
        }


@pytest.mark.parametrize("manifest", IMAGES, ids=lambda each: each.name)
def test_nobody_can_tell_who_looks_at_the_end(manifest: Manifest) -> None:
    fast, slow = came_to(manifest, True), came_to(manifest, False)
    stacks, _ = fast.pop("stacks"), slow.pop("stacks")
    differ = {at for at, _ in fast.pop("pages").items() ^ slow.pop("pages").items()}
    assert fast == slow
    assert differ <= stacks, [hex(at << PAGE_SHIFT) for at in sorted(differ)]
