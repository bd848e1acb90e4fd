"""The processor's own accesses: page crossing, privilege, A and D, what is not RAM."""

from __future__ import annotations

import pytest

from sandbox.machine.system_access import ProcessorFault, SystemAccess
from sandbox.x86.masks import CR0_PAGED, CR4_PAE
from tests.machine.world import World


def test_paging_off_is_identity(world: World) -> None:
    system = SystemAccess(world.memory, world.context)
    system.write(0x5FFE, 4, 0x44332211, "writing")
    assert world.get(0x5FFE) == 0x44332211
    assert system.read(0x5FFF, 2, "reading") == 0x3322


def test_a_write_across_pages_is_all_or_nothing(world: World) -> None:
    """CR2 is the second page's first byte."""
    world.page(0x6000)
    system = SystemAccess(world.memory, world.context)
    with pytest.raises(ProcessorFault) as caught:
        system.write(0x5FFE, 4, 0x44332211, "writing")
    assert (caught.value.vector, caught.value.error_code, caught.value.address) == (14, 2, 0x6000)
    assert world.get(0x5FFE, 2) == 0
    assert "writing at 0x00006000: not present" in str(caught.value)


def test_accessed_and_dirty_bits(world: World) -> None:
    world.page()
    system = SystemAccess(world.memory, world.context)
    system.read(0x5000, 4, "reading")
    assert world.entry(0x5000) & 0x60 == 0x20
    system.write(0x5000, 4, 0, "writing")
    assert world.entry(0x5000) & 0x60 == 0x60
    SystemAccess(world.memory, world.context, sets_accessed=False).write(0x6000, 4, 0, "writing")
    assert world.entry(0x6000) & 0x60 == 0


def test_supervisor_and_user_rights(world: World) -> None:
    world.page(supervisor=(0x5000,))
    world.ring(3)
    system = SystemAccess(world.memory, world.context)
    system.write(0x5000, 4, 1, "writing")
    with pytest.raises(ProcessorFault) as caught:
        system.write(0x5000, 4, 1, "writing", user=True)
    assert caught.value.error_code == 7


def test_where_there_is_no_ram(world: World) -> None:
    system = SystemAccess(world.memory, world.context)
    assert system.read(0xA0000, 4, "reading") == 0xFFFFFFFF
    system.write(0x80000000, 4, 1, "writing")


def test_addresses_wrap_at_4_gb(world: World) -> None:
    system = SystemAccess(world.memory, world.context)
    world.put(0, 2, 0xBEEF)
    assert system.read(0xFFFFFFFE, 4, "reading") == 0xBEEFFFFF


def test_damaged_pdpte_is_a_page_fault(world: World) -> None:
    """The walks that this machine makes see PDPTEs in memory; one that was damaged after its load is no assertion."""
    state = world.context
    world.put(0x20000, 8, 0x21000 | 1 | 1 << 40)
    state.cr3, state.cr4, state.cr0 = 0x20000, CR4_PAE, CR0_PAGED
    with pytest.raises(ProcessorFault) as caught:
        SystemAccess(world.memory, state).read(0x1000, 4, "reading")
    assert (caught.value.vector, caught.value.error_code) == (14, 9), "present and reserved (SDM 3A, 4.7)"
