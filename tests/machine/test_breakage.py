"""Switches: their names, and the instruction that one of them steps over."""

from __future__ import annotations

import pytest

from sandbox.image.assemble import assemble_text
from sandbox.machine import breakage
from sandbox.machine.switches import checked
from sandbox.x86.errors import ConfigurationError


def test_unknown_switches_are_refused_with_the_list() -> None:
    assert checked(["no-wp"]) == {"no-wp"}
    with pytest.raises(ConfigurationError, match="no-such") as caught:
        checked(["no-wp", "no-such"])
    assert "no-invlpg" in caught.value.detail


@pytest.mark.parametrize(
    "operand",
    [
        "[eax]",
        "[ebp+4]",
        "[esp]",
        "[esp+0x1000]",
        "[0x40000000]",
        "[ecx*4+8]",
        "[ebx+esi*2-3]",
        "[ebp]",
        "[edi+0x12345]",
    ],
)
def test_length_of_invlpg(operand: str) -> None:
    """Against GNU as: all of the encoding and nothing behind it."""
    code = assemble_text(f"invlpg {operand}")
    assert breakage._invlpg_length(code + b"\x90" * 8) == len(code)


@pytest.mark.parametrize(
    "other", ["sgdt [eax]", "lidt [eax]", "smsw ax", "lmsw ax", "swapgs_like: nop", "mov eax, cr0"]
)
def test_what_is_no_invlpg(other: str) -> None:
    assert breakage._invlpg_length(assemble_text(other) + b"\x90" * 8) == 0
