"""The base of all errors."""

from __future__ import annotations

from sandbox.x86.errors import ConfigurationError, SandboxError


def test_summary_is_the_message_and_detail_is_apart() -> None:
    error = SandboxError("image hello.elf: no entry", "line one\nline two")
    assert str(error) == error.summary == "image hello.elf: no entry"
    assert error.detail == "line one\nline two"
    assert SandboxError("x").detail == ""


def test_exit_statuses() -> None:
    assert SandboxError.exit_status == 3
    assert ConfigurationError("ram of 0 bytes").exit_status == 2
    assert issubclass(ConfigurationError, SandboxError)
