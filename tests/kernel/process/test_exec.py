"""exec: what a program finds on its stack and in its memory, and files that are no programs."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.image.elf import ImageError, parse_executable
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import BadProgram, run_program
from sandbox.x86.errors import SandboxError
from tests.conftest import Program, Run

DUMP = """
_start: mov ebp, esp
        sys write, 1, ebp, 4
        mov edx, 0xC0000000
        sub edx, ebp
        sys write, 1, ebp
        pass
"""


def stack_of(run: Run, arguments: tuple[str, ...] = (), **config: object) -> tuple[int, bytes]:
    """The stack pointer at the entry, and everything from there to TASK_SIZE."""
    out = run(DUMP, arguments, **config).stdout[4:]
    return 0xC0000000 - len(out), out


def parse(base: int, image: bytes) -> tuple[list[bytes], list[bytes], dict[int, int]]:
    words = struct.unpack(f"<{len(image) // 4}I", image[: len(image) // 4 * 4])

    def string(address: int) -> bytes:
        return image[address - base : image.index(b"\0", address - base)]

    at = words.index(0, 1)
    argv = [string(each) for each in words[1:at]]
    end = words.index(0, at + 1)
    envp = [string(each) for each in words[at + 1 : end]]
    assert words[0] == len(argv)
    auxv = {}
    at = end + 1
    while words[at]:
        auxv[words[at]] = words[at + 1]
        at += 2
    return argv, envp, auxv


@pytest.mark.parametrize("arguments", [(), ("a",), ("one two", "", "ü", "x" * 5000)])
def test_argv_and_environment(run: Run, paging: str, arguments: tuple[str, ...]) -> None:
    base, image = stack_of(run, arguments, paging=paging, environment=("A=1", "EMPTY="))
    argv, envp, _ = parse(base, image)
    assert argv == [b"/bin/t", *(each.encode() for each in arguments)]
    assert envp == [b"A=1", b"EMPTY="]
    assert base % 16 == 0, "the i386 ABI wants ESP 16-byte aligned at the entry"


def test_auxiliary_vector(run: Run, program: Program) -> None:
    base, image = stack_of(run)
    _, _, auxv = parse(base, image)
    header = struct.unpack_from("<16sHHIIIIIHHHHHH", program(DUMP))
    assert auxv[6] == 4096
    assert auxv[9] == header[4], "AT_ENTRY"
    assert (auxv[3], auxv[4], auxv[5]) == (0x08048000 + header[5], 32, header[10]), "AT_PHDR, AT_PHENT, AT_PHNUM"
    assert [auxv[each] for each in (11, 12, 13, 14, 23)] == [0] * 5
    assert base < auxv[25] <= 0xC0000000 - 16, "AT_RANDOM names 16 bytes"
    assert image[auxv[31] - base :].startswith(b"/bin/t\0"), "AT_EXECFN"
    assert image[auxv[15] - base :].startswith(b"i686\0"), "AT_PLATFORM"


def test_random_bytes_follow_the_seed(run: Run) -> None:
    def noise(seed: int) -> bytes:
        base, image = stack_of(run, seed=seed)
        at = parse(base, image)[2][25] - base
        return image[at : at + 16]

    assert noise(1) == noise(1) != noise(2)


def test_registers_at_the_entry(run: Run) -> None:
    """The ABI leaves them unspecified but EDX (an atexit function, 0 for none); Linux clears them all."""
    text = """
_start: pushfd
        or eax, ebx
        or eax, ecx
        or eax, esi
        or eax, edi
        or eax, ebp
        or eax, edx
        mov ebx, eax
        pop ecx
        and ecx, 0xCD5
        or ebx, ecx
        mov eax, SYS_exit
        int 0x80
"""
    assert run(text).status == 0


def test_bss_is_zero_and_its_tail_too(run: Run, paging: str) -> None:
    text = """
_start: mov ecx, offset _end
        sub ecx, offset after
        mov edi, offset after
        xor eax, eax
        repe scasb
        jne bad
        expect_at before, 5, 2
        pass
bad:    mov ebx, 1
        jmp fail
        .data
before: .long 5
        .bss
after:  .skip 10000
"""
    assert run(text, paging=paging).status == 0
    assert run(text, switches=frozenset({"no-bss-zero"})).status in (0, 1)


LOAD, VADDR, OFFSET, MEMSZ = 1, 8, 4, 20
"""Of a program header: its type, and where the words are."""


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (OFFSET, 4, "differ modulo the page size"),
        (MEMSZ, 1, "only 1 in memory"),
        (VADDR, 0xC0000000, "into the kernel"),
        (0, 6, "not mapped"),
    ],
)
def test_the_first_program_dies_after_the_point_of_no_return(program: Program, at: int, value: int, said: str) -> None:
    """As a shell tells it natively: Segmentation fault, 139; and the report says why."""
    data = bytearray(program("_start: pass"))
    phoff, phnum = struct.unpack_from("<I", data, 28)[0], struct.unpack_from("<H", data, 44)[0]
    for header in range(phoff, phoff + 32 * phnum, 32):
        if struct.unpack_from("<I", data, header)[0] == LOAD:
            struct.pack_into("<I", data, header + at, value)
    result = run_program("t", bytes(data))
    assert (result.signal, result.error) == (11, "")
    assert said in result.deaths[0][3]


def test_argument_limit(run: Run) -> None:
    with pytest.raises(BadProgram):
        run("_start: pass", ("x" * 200_000,))


EXEC = """
_start: mov eax, 11
        mov ebx, {name}
        mov ecx, {argv}
        xor edx, edx
        int 0x80
        neg eax
        sys exit, eax
        .data
name:   .asciz "{path}"
long:   .fill 4096, 1, 'a'
"""


@pytest.mark.parametrize(
    ("path", "name", "argv", "error"),
    [
        ("/none", "offset name", "0", 2),
        ("/text", "offset name", "0", 8),
        ("/empty", "offset name", "0", 8),
        ("/bin", "offset name", "0", 13),
        ("", "offset name", "0", 2),
        ("/x", "0", "0", 14),
        ("/x", "0xC0000000", "0", 14),
        ("/bin/t", "offset name", "1", 14),
        ("/bin/t/x", "offset name", "0", 20),
        ("/x", "offset long", "0", 36),
    ],
)
def test_execve_refuses_and_the_old_program_goes_on(run: Run, path: str, name: str, argv: str, error: int) -> None:
    text = EXEC.format(path=path, name=name, argv=argv)
    assert run(text, files={"/text": b"hello\n" * 20, "/empty": b""}).status == error


def test_execve_replaces_everything(run: Run, program: Program) -> None:
    """The old mappings, break and descriptors marked close-on-exec are gone; others stay."""
    other = program("""
_start: mov eax, SYS_brk
        xor ebx, ebx
        int 0x80
        mov ecx, [0x50000000]
        pass
""")
    text = """
_start: sys mmap2, 0x50000000, PAGE, 3, 0x32, -1, 0
        mov dword ptr [eax], 1
        mov eax, 11
        mov ebx, offset name
        xor ecx, ecx
        xor edx, edx
        int 0x80
        sys exit, 9
        .data
name:   .asciz "/bin/other"
"""
    result = run(text, files={"/bin/other": other})
    assert result.signal == 11
    assert result.faults[-1].address == 0x50000000
    assert result.deaths[0][1] == "other"


@pytest.mark.parametrize("vaddr", [0xBFFFF000, 0xBFFFE000, 0xBF000000])
def test_a_segment_where_the_stack_goes(program: Program, vaddr: int) -> None:
    """Such a program cannot start; it is the program's fault, not the sandbox's."""
    data = bytearray(program("_start: pass\n .bss\n .skip 4"))
    phoff, phnum = struct.unpack_from("<I", data, 28)[0], struct.unpack_from("<H", data, 44)[0]
    for number in range(phnum):
        at = phoff + 32 * number
        kind, offset, _, _, filesz, memsz, _, _ = struct.unpack_from("<8I", data, at)
        if kind == 1 and not filesz and memsz:
            struct.pack_into("<8I", data, at, 1, offset, vaddr | offset & 0xFFF, 0, 0, 0x1000 - (offset & 0xFFF), 6, 0)
    result = run_program("t", bytes(data))
    assert result.passed or result.signal == 11


def test_header_errors_name_the_place(program: Program) -> None:
    good = bytearray(program("_start: pass"))
    for offset, value, words in (
        (0, b"\x7fELG", "not an ELF"), (42, b"\x38", "56 bytes"),
        (16, b"\x01\0", "relocatable"), (18, b"\x3e\0", "machine 62"),
        (44, b"\0\0", "0 program headers"),
        (28, b"\xff\xff\xff\x7f", "beyond the end"),
    ):  # fmt: skip
        bad = bytearray(good)
        bad[offset : offset + len(value)] = value
        with pytest.raises(ImageError) as caught:
            parse_executable(bytes(bad), "prog")
        assert words in caught.value.summary
        assert caught.value.summary.startswith("prog")
        with pytest.raises(BadProgram):
            run_program("prog", bytes(bad))
    for size in (0, 3, 51, 52, 100):
        with pytest.raises(ImageError):
            parse_executable(bytes(good[:size]), "prog")


def test_damaged_headers_never_harm_us(program: Program) -> None:
    """Whatever the headers say: it runs, dies by a signal, or is refused as bad input; never our own fault."""
    good = program("_start: pass\n .data\n .long 1\n .bss\n .skip 9000")
    config = KernelConfig(ram=8 << 20, block_limit=200_000)
    places = st.integers(0, 52 + 4 * 32 - 1)
    values = st.sampled_from([0, 1, 2, 4, 0x7F, 0x80, 0xBF, 0xC0, 0xFE, 0xFF])

    @settings(max_examples=250, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(places, values), min_size=1, max_size=3))
    def damage(changes: list[tuple[int, int]]) -> None:
        data = bytearray(good)
        for at, value in changes:
            data[at] = value
        try:
            run_program("t", bytes(data), (), config)
        except SandboxError as error:
            assert error.exit_status in (1, 2), (error.summary, error.detail)

    damage()


def test_a_running_program_cannot_be_written(run: Run) -> None:
    text = """
_start: sys open, "offset itself", 1
        expect eax, -26, 1
        sys open, "offset other", 0x41, 0x1ed
        expect eax, 3, 2
        mov eax, 11
        mov ebx, offset other
        xor ecx, ecx
        xor edx, edx
        int 0x80
        expect eax, -26, 3
        pass
        .section .rodata
itself: .asciz "/proc/self/exe"
other:  .asciz "/tmp/other"
"""
    assert run(text).status == 0
