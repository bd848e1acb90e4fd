"""Sizes that a machine cannot have are told in a line, however small or large."""

from __future__ import annotations

import pytest

from sandbox.kernel.base.config import KernelConfig
from sandbox.x86.errors import ConfigurationError

SIZES = [(1, "1 byte"), (0, "0 bytes"), (-5, "-5 bytes"), (1 << 20, "1 MB"), (63 << 30, "64512 MB"),
         (10**400, "more than 2^64 bytes"), (-(10**400), "less than 0 bytes")]  # fmt: skip


@pytest.mark.parametrize(("size", "told"), SIZES, ids=[told for _, told in SIZES])
def test_ram(size: int, told: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{told.replace('^', '.')} of RAM: a machine has 4 MB to 62 GB$"):
        KernelConfig(ram=size)


@pytest.mark.parametrize("size", [1, -5, 10**400])
def test_the_direct_map(size: int) -> None:
    told = dict(SIZES)[size]
    with pytest.raises(ConfigurationError, match=rf"^a direct map of {told.replace('^', '.')}: it is a multiple"):
        KernelConfig(direct_map=size)
