"""Sources by what they define: modules, programs by themselves, programs for a C library, and those that are none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sandbox.image import hosted
from sandbox.image.assemble import AssemblyError
from sandbox.image.hosted import NoLibrary, NoStart, build_source
from sandbox.image.libc import is_fetched
from sandbox.runner.run import run_program

PRINTS = """
#include <stdio.h>
#include <math.h>
__thread int mine = 4;
int main(int argc, char **argv)
{
        volatile double two = 2;
        return printf("%d %s %.6f\\n", argc, argv[1], sqrt(two)) + mine;
}
"""
CALLS = {
    "m.S": '.globl main\nmain: push $text\ncall puts\npop %eax\nmov $5, %eax\nret\n.data\ntext: .asciz "gas"\n',
    "m.asm": "global main\nextern puts\nmain: push text\ncall puts\npop eax\nmov eax, 6\nret\n"
    "section .data\ntext: db 'nasm', 0\n",
}


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> None:
    if not hosted._host_has_library(tmp_path_factory.mktemp("least") / "least.c"):
        pytest.skip("the host's gcc has no C library for i386")


@pytest.mark.usefixtures("host")
def test_a_main_is_linked_and_does_what_it_does_natively(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert build_source(write(tmp_path, "prints.c", PRINTS), out) == "program"
    native = subprocess.run([out, "word"], capture_output=True, check=False)
    result = run_program("prints", out.read_bytes(), ["word"])
    assert (result.status, result.stdout) == (native.returncode, native.stdout)
    assert native.stdout == b"2 word 1.414214\n"


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(("name", "status", "said"), [("m.S", 5, b"gas\n"), ("m.asm", 6, b"nasm\n")])
def test_a_main_in_assembly(tmp_path: Path, name: str, status: int, said: bytes) -> None:
    out = tmp_path / "out"
    assert build_source(write(tmp_path, name, CALLS[name]), out) == "program"
    result = run_program("m", out.read_bytes())
    assert (result.status, result.stdout) == (status, said)


@pytest.mark.usefixtures("host")
def test_an_error_in_the_source_stays_the_compilers(tmp_path: Path) -> None:
    with pytest.raises(AssemblyError, match=r"^bad\.c:1:\d+: error: "):
        build_source(write(tmp_path, "bad.c", "int main(void) { return 0 }\n"), tmp_path / "out")
    with pytest.raises(AssemblyError, match="undefined reference to `no_such_function'"):
        build_source(write(tmp_path, "b.c", "int main(void) { return no_such_function(); }\n"), tmp_path / "out")


def test_without_any_library_it_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted, "HOST", ("false",))
    monkeypatch.setattr(hosted, "is_fetched", lambda: False)
    for name, text in (("p.c", PRINTS), ("m.S", CALLS["m.S"])):
        with pytest.raises(NoLibrary, match=rf"{name}: it has a main") as caught:
            build_source(write(tmp_path, name, text), tmp_path / "out")
        assert caught.value.exit_status == 2
        assert "gcc-multilib" in caught.value.detail and "fetch.sh" in caught.value.detail


@pytest.mark.skipif(not is_fetched(), reason="the C libraries are not fetched")
@pytest.mark.parametrize(
    ("name", "text", "said"), [("p.c", PRINTS, b"2 word 1.414214\n"), ("m.S", CALLS["m.S"], b"gas\n")]
)
def test_musl_serves_where_gcc_has_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: bytes
) -> None:
    monkeypatch.setattr(hosted, "HOST", ("false",))
    assert build_source(write(tmp_path, name, text), tmp_path / "out") == "program"
    assert run_program("p", (tmp_path / "out").read_bytes(), ["word"]).stdout == said


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("empty.S", "", "there is no _start"),
        ("data.S", ".data\n.long 1\n", "there is no _start"),
        ("other.c", "int f(void) { return 1; }\n", "there is no main and no _start"),
        ("undefined.S", ".globl _start\ncall _start\n", "there is no _start"),
        ("local.S", "_start: nop\n", "_start is not global"),
        ("local.c", "static int main(void) { return 1; }\nint (*p)(void) = main;\n", "main is not global"),
        ("module.c", "static int __attribute__((used)) init_module(void) { return 0; }\n", "init_module is not global"),
    ],
)
def test_no_place_to_begin(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(NoStart, match=said) as caught:
        build_source(write(tmp_path, name, text), tmp_path / "out")
    assert caught.value.summary.startswith(f"{name}: ")
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("name", ["-dash.S", "@at.S", "-o.S"])
def test_names_that_look_like_options(tmp_path: Path, name: str) -> None:
    source = write(tmp_path, name, ".globl _start\n_start: mov $1, %eax\nmov $9, %ebx\nint $0x80\n")
    assert build_source(source, tmp_path / "out") == "program"
    assert run_program("dash", (tmp_path / "out").read_bytes()).status == 9
