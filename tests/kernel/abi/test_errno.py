"""The host's errno module is the oracle: the numbers are the same on i386 and x86-64."""

from __future__ import annotations

import errno as host

import pytest

from sandbox.kernel.abi import errno
from sandbox.kernel.abi.errno import ENOENT, KernelError, name_of


def test_numbers_are_the_hosts() -> None:
    ours = {name: value for name, value in vars(errno).items() if name[0] == "E" and isinstance(value, int)}
    known = {name: value for name, value in ours.items() if hasattr(host, name)}
    assert known == {name: getattr(host, name) for name in known}
    assert len(known) > 120
    assert set(host.errorcode) - set(errno.NAMES) == set()


def test_kernel_error() -> None:
    with pytest.raises(KernelError) as caught:
        raise KernelError(ENOENT)
    assert caught.value.errno == 2
    assert str(caught.value) == "ENOENT"
    assert name_of(11) == "EAGAIN"
    assert name_of(41) == "errno 41"
