"""Images with nothing recorded: pages are then filled, and copied, on the way out, and nothing else is different."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from sandbox.engine.stubs import native_host
from sandbox.image.build import manifests
from sandbox.image.manifest import Manifest
from sandbox.kernel.drivers.console import BytesSource
from sandbox.runner.run import open_session
from sandbox.runner.session import Streams
from sandbox.runner.target import resolve
from sandbox.x86.paging import PAGE_SHIFT, PAGE_SIZE

pytestmark = pytest.mark.skipif(not native_host(), reason="the way out is x86-64 Linux code")
MOST_RAM = 1 << 30
"""To read all of RAM takes its time."""
IMAGES = [each for each in manifests() if not each.helper and each.kind != "rom" and each.ram <= MOST_RAM]


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
        result, memory = session.finish(), kernel.memory.bytes
        return {
            "status": (result.status, result.signal, result.error),
            "stdout": result.stdout,
            "clock": kernel.clock.machine,
            "calls": [cpu.calls for cpu in kernel.cpus],
            "stats": kernel.stats,
            "flushes": kernel.tlb.counters,
            "pages": digests(memory),
            "stacks": stacks,
        }


def digests(memory: memoryview) -> list[bytes]:
    """Of every page."""
    pages = range(0, len(memory), PAGE_SIZE)
    return [hashlib.blake2b(memory[at : at + PAGE_SIZE], digest_size=8).digest() for at in pages]


@pytest.mark.parametrize("manifest", IMAGES, ids=lambda each: each.name)
def test_nobody_can_tell_who_looks_at_the_end(manifest: Manifest) -> None:
    fast, slow = came_to(manifest, True), came_to(manifest, False)
    stacks, _ = fast.pop("stacks"), slow.pop("stacks")
    differ = [at for at, (one, two) in enumerate(zip(fast.pop("pages"), slow.pop("pages"), strict=True)) if one != two]
    assert fast == slow
    assert set(differ) <= stacks, [hex(at << PAGE_SHIFT) for at in differ]
