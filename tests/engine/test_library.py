"""The hand-written declarations against the installed package, and refusal of what was not measured."""

from __future__ import annotations

import importlib.metadata
from unittest.mock import patch

import pytest
from unicorn import unicorn_const, x86_const

from sandbox.engine import library as lib

SAME_NAMES = {
    "ARCH_X86": "UC_ARCH_X86",
    "MODE_32": "UC_MODE_32",
    "PROT_EXEC": "UC_PROT_EXEC",
    "PROT_ALL": "UC_PROT_ALL",
    "HOOK_INTR": "UC_HOOK_INTR",
    "HOOK_INSN": "UC_HOOK_INSN",
    "HOOK_CODE": "UC_HOOK_CODE",
    "HOOK_BLOCK": "UC_HOOK_BLOCK",
    "HOOK_MEM_UNMAPPED": "UC_HOOK_MEM_UNMAPPED",
    "HOOK_MEM_FETCH_PROT": "UC_HOOK_MEM_FETCH_PROT",
    "MEM_WRITE_UNMAPPED": "UC_MEM_WRITE_UNMAPPED",
    "MEM_FETCH_UNMAPPED": "UC_MEM_FETCH_UNMAPPED",
    "MEM_FETCH_PROT": "UC_MEM_FETCH_PROT",
    "CTL_USE_EXITS": "UC_CTL_UC_USE_EXITS",
    "CTL_TB_REMOVE_CACHE": "UC_CTL_TB_REMOVE_CACHE",
    "CTL_TB_FLUSH": "UC_CTL_TB_FLUSH",
    "CTL_TLB_FLUSH": "UC_CTL_TLB_FLUSH",
    "CTL_TCG_BUFFER_SIZE": "UC_CTL_TCG_BUFFER_SIZE",
    "INSN_IN": "UC_X86_INS_IN",
    "INSN_OUT": "UC_X86_INS_OUT",
    "INSN_RDTSC": "UC_X86_INS_RDTSC",
    "INSN_RDTSCP": "UC_X86_INS_RDTSCP",
}
ERRORS = [name for name in vars(lib) if name.startswith("ERR_")]
REGISTERS = [name for name in vars(lib) if name.startswith("REG_")]


def packaged(name: str) -> int:
    value = getattr(unicorn_const, name, None)
    return int(getattr(x86_const, name) if value is None else value)


@pytest.mark.parametrize("name", SAME_NAMES)
def test_constant(name: str) -> None:
    assert getattr(lib, name) == packaged(SAME_NAMES[name])


@pytest.mark.parametrize("name", ERRORS)
def test_error_number(name: str) -> None:
    assert getattr(lib, name) == packaged("UC_" + name)


@pytest.mark.parametrize("name", REGISTERS)
def test_register_number(name: str) -> None:
    special = {"REG_FPTAG": "UC_X86_REG_FPTAG"}
    assert getattr(lib, name) == packaged(special.get(name, "UC_X86_" + name))


def test_every_constant_is_compared() -> None:
    plain = {name for name, value in vars(lib).items() if name.isupper() and isinstance(value, int)}
    assert plain - SAME_NAMES.keys() - set(ERRORS) - set(REGISTERS) == {"NO_ADDRESS"}


def test_version_is_the_packages() -> None:
    assert importlib.metadata.version("unicorn") == ".".join(map(str, lib.ENGINE_VERSION))


def test_other_version_is_refused() -> None:
    with patch.object(lib, "ENGINE_VERSION", (2, 1, 5)), pytest.raises(lib.UnknownEngine) as caught:
        lib.library.__wrapped__()
    assert "2.1.4 is installed; only 2.1.5 was measured" in caught.value.summary
    assert caught.value.exit_status == 3


def test_missing_package_is_refused() -> None:
    with patch("importlib.util.find_spec", return_value=None), pytest.raises(lib.UnknownEngine, match="not installed"):
        lib.library.__wrapped__()


def test_library_that_cannot_be_loaded_is_refused() -> None:
    with patch("ctypes.CDLL", side_effect=OSError("wrong ELF class")), pytest.raises(lib.UnknownEngine) as caught:
        lib.library.__wrapped__()
    assert caught.value.detail == "wrong ELF class"


def test_check_names_the_error() -> None:
    lib.check(lib.ERR_OK, "nothing")
    with pytest.raises(lib.EngineError, match=r"the engine refused to map: .*UC_ERR_READ_UNMAPPED"):
        lib.check(lib.ERR_READ_UNMAPPED, "to map")


def test_control_word() -> None:
    """UC_CTL_WRITE(type, nr) of unicorn.h: type | nr << 26 | direction << 30."""
    assert lib.control(lib.CTL_TB_REMOVE_CACHE, 2, 1) == 9 | 2 << 26 | 1 << 30
