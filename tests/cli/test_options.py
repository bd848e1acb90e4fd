"""What stands behind IMAGE, options that add up, options that an image has no use for, numbers."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from sandbox.cli import _parse, main
from tests.cli.test_cli import Files, call, elf  # noqa: F401

ARGC = "_start: mov ebx, [esp]\n mov eax, 1\n int 0x80"
"""Ends with the number of its arguments, its own name counted."""
IMAGES = Path(__file__).resolve().parents[2] / "images"


@pytest.mark.parametrize("words", [["--nosuch"], ["--nosuch=1"], ["--stat"], ["a", "--nosuch"], ["a", "--json"]])
@pytest.mark.parametrize("verb", ["run", "explain", "debug"])
def test_no_double_dash_is_silently_an_argument(elf: Files, capfd, verb: str, words: list[str]) -> None:  # noqa: F811
    status, out, err = call([verb, elf(ARGC), *words], capfd)
    assert (status, out) == (2, "")
    assert words[-1].partition("=")[0] in err.splitlines()[0]
    assert "--" in err.splitlines()[1]


@pytest.mark.parametrize(
    ("words", "argc"),
    [
        (["a", "b"], 3), (["-c", "x"], 3), (["a", "-c"], 3), (["--", "--nosuch"], 2), (["a", "--", "--json"], 3),
        (["--", "--"], 2), (["--", "a", "--", "b"], 4), (["--seed", "3", "--", "a"], 2), (["--seed=3", "-"], 2),
    ],
)  # fmt: skip
def test_words_of_the_program(elf: Files, capfd, words: list[str], argc: int) -> None:  # noqa: F811
    assert call(["run", "--status", elf(ARGC), *words], capfd)[0] == argc


def test_trace_given_twice_adds(elf: Files, capfd) -> None:  # noqa: F811
    _, _, err = call(["run", "--trace", "faults", elf("_start: sys getpid\n pass"), "--trace", "calls,tasks"], capfd)
    assert "file-read" in err
    assert "getpid(" in err
    assert "exit status" in err


def test_scripts_and_commands_are_obeyed_in_their_order(elf: Files, capfd, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "one").write_text("x _start 1\n")
    (tmp_path / "two").write_text("x _start 3\nquit\n")
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    path = elf("_start: .byte 0xb8, 0x11, 0x22, 0x33, 0x44")
    _, out, _ = call(["debug", "-e", "x _start 4", "-x", one, path, "-e", "x _start 2", "--script", two], capfd)
    shown = [line.split("  ")[1] for line in out.splitlines() if line.startswith("0")]
    assert shown == ["b8 11 22 33", "b8", "b8 11", "b8 11 22"]
    (tmp_path / "none").mkdir()
    assert call(["debug", path, "-e", "regs", "-x", str(tmp_path / "none")], capfd)[0] == 2


@pytest.mark.parametrize("line", ["nonsense", "break _start if (", "delete 7", "goto 99999999:1", "step -1"])
def test_a_line_that_is_refused_is_told_and_is_the_status(elf: Files, capfd, tmp_path: Path, line: str) -> None:  # noqa: F811
    """As bad usage is everywhere; what comes behind it is done."""
    path, script = elf("_start: nop\nmov ebx, 7\nmov eax, 1\nint 0x80"), tmp_path / "script"
    script.write_text(f"# a comment\n\n{line}\nstep\nmore nonsense\n")
    status, out, err = call(["debug", path, "-x", str(script)], capfd)
    assert status == 2
    assert "<_start+0x1>" in out
    assert err.startswith(f"sandbox: {script}:3: {line}: ")
    assert "1 more" in err
    status, out, err = call(["debug", path, "--json", "--status", "-e", line, "-e", "continue"], capfd)
    assert (status, err.split(": ")[:3]) == (2, ["sandbox", "-e", line])
    assert call(["debug", path, "--status", "-e", "continue"], capfd)[0] == 7


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["run", "rom-large-pages", "--paging", "pae"], "--paging"),
        (["run", "rom-large-pages", "--strace", "--boot", "mem=16m"], "--boot, --strace"),
        (["run", "rom-large-pages", "word"], "arguments"),
        (["run", "rom-large-pages", "--device", "card"], "--device"),
        (["run", "rom-large-pages", "--screen", "-"], "--screen"),
        (["run", "kmalloc", "--strace"], "--strace"),
        (["explain", "kmalloc", "--root", "/"], "--root"),
        (["run", "hello", "--write"], "--write"),
        (["run", "rom-large-pages", "--epoch", "0"], "--epoch"),
        (["run", "hello", "--seeds", "1-2", "--seed", "0"], "--seed"),
        (["run", "hello", "--seeds", "1-2", "--trace", "faults", "--stats"], "--trace, --stats"),
        (["frames", "--end"], "--end"),
        (["frames", "hello", "--end", "--sanitize", "tlb"], "--sanitize"),
        (["walk", "hello", "0", "--sanitize", "tlb"], "--sanitize"),
        (["maps", "--at", "_start"], "--at"),
    ],
)
def test_options_that_would_do_nothing(capfd, words: list[str], named: str) -> None:
    words = [str(IMAGES / word) if word in ("rom-large-pages", "kmalloc", "hello") else word for word in words]
    status, out, err = call(words, capfd)
    assert (status, out) == (2, "")
    assert named in err
    assert err.count("\n") == 1


WRONG = {
    "compare": ("nosuch",), "semantics": ("--count", "x"), "test": ("-j", "x"), "asm": (), "disasm": (),
    "campaign": ("nosuch",),
}  # fmt: skip
VERBS = (
    "walk", "maps", "frames", "run", "explain", "debug", "campaign", "compare", "semantics", "test", "asm", "disasm",
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_a_wrong_command_line_is_told_in_two_lines(capfd, verb: str) -> None:
    """The usage and the mistake; all options are in --help."""
    status, out, err = call([verb, *WRONG.get(verb, ("--cpus", "many"))], capfd)
    assert (status, out, err.count("\n")) == (2, "", 2)
    assert re.match(rf"usage: sandbox {verb} (-o FILE )?\[options\] ", err)


def test_version(capfd) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert leaving.value.code == 0
    assert capfd.readouterr().out == f"sandbox {version('sandbox')}\n"


PLACE = "_start: nop\nhere: jmp here"


@pytest.mark.parametrize(
    "bad", ["0x100000000", "0x100001000", "4294967296", "-1", "-0x1000", "$esp+0xffffffff", "_start-0x90000000",
            "0x1_0", "\u0661\u0662", "+5", "", "123456789abc"],
)  # fmt: skip
def test_addresses_outside_of_4_gb_are_refused(elf: Files, capfd, bad: str) -> None:  # noqa: F811
    path = elf(PLACE)
    for words in (["walk", path, bad], ["maps", path, "--at", bad], ["disasm", "c3", "--address", bad]):
        status, out, err = call(words, capfd)
        assert (status, out) == (2, ""), words
        assert err


def test_what_is_printed_can_be_pasted_back(elf: Files, capfd) -> None:  # noqa: F811
    path = elf(PLACE)
    _, out, _ = call(["debug", path, "-e", "break here", "-e", "continue", "-e", "maps"], capfd)
    lines = out.splitlines()
    address, name = next(line for line in lines if line.startswith("->") and "<here>" in line).split()[1:3]
    span = next(line for line in lines if " r-x" in line).split()[0]
    wanted = call(["walk", path, f"0x{address}"], capfd)[1]
    for text in (address, f"{address} {name}", name, str(int(address, 16)), "<_start+0x1>", address.upper()):
        assert call(["walk", path, text], capfd)[1] == wanted, text
    assert call(["walk", path, span], capfd)[1] == call(["walk", path, f"0x{span[:8]}"], capfd)[1]
    _, out, _ = call(["debug", path, "-e", f"walk {address} {name} x", "-e", f"x {address} {name} 2"], capfd)
    assert out.splitlines()[-1].startswith(f"{address}  eb fe")


DASHED = ".intel_syntax noprefix\n.globl _start\n_start: mov eax, 1\n mov ebx, [esp]\n int 0x80\n"


@pytest.mark.parametrize(
    ("words", "status", "seen"),
    [
        (["run", "--status", "-dash.S"], 1, ""), (["run", "--status", "-dash.S", "-a", "-dash.S"], 3, ""),
        (["run", "--status", "-dash.S", "--seed", "1", "-a"], 2, ""),
        (["run", "--status", "--", "-dash.S", "-a"], 2, ""),
        (["explain", "-dash.S"], 0, "fault 1"), (["debug", "-dash.S", "-x", "-script"], 0, "cr3"),
        (["debug", "-e.S", "-e", "regs"], 0, "cr3"), (["walk", "-dash.S", "_start"], 0, "PTE"),
        (["maps", "-dash.S"], 0, "brk"), (["frames", "-dash.S"], 0, "physical"), (["asm", "-nop.txt"], 0, "nop"),
        (["disasm", "-dash.S"], 0, "int 0x80"), (["test", "--whole", "-folder"], 0, " 0 failed"),
    ],
)  # fmt: skip
def test_a_file_with_a_dash_is_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd, words: list[str], status: int, seen: str
) -> None:
    """Where such a file exists; argc tells what of the words behind it the program got."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("-dash.S", DASHED), ("-e.S", DASHED), ("-nop.txt", "nop"), ("-script", "regs\n")):
        Path(name).write_text(text)
    Path("-folder").symlink_to(IMAGES / "demand-zero")
    found = call(words, capfd)
    assert found[0] == status, found
    assert seen in found[1]


def test_options_are_not_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd, elf: Files) -> None:  # noqa: F811
    path = elf(ARGC)
    monkeypatch.chdir(tmp_path)
    Path("--stats").touch()
    assert "page faults" in call(["run", "--stats", path], capfd)[2]
    status, _, err = call(["run", "-nosuch.S"], capfd)
    assert (status, err.splitlines()[0]) == (2, "sandbox: unknown option -nosuch.S")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["campaign", "images", "-o", "x", "a", "--whole", "b"], ["a", "b"]),
        (["campaign", "-o", "x", "-j2", "images", "a"], ["a"]),
        (["test", "a", "-j", "2", "b"], ["a", "b"]),
        (["test", "a", "--whole", "--", "-b"], ["a", "-b"]),
        (["semantics", "mmx", "--count", "5", "sse"], ["mmx", "sse"]),
    ],
)
def test_names_may_stand_on_both_sides_of_options(words: list[str], names: list[str]) -> None:
    """As getopt(3) permutes them."""
    options = _parse(words)
    assert (options.families if words[0] == "semantics" else options.paths) == names


@pytest.mark.parametrize("command", [["test", "-j"], ["campaign", "images", "-o", "x", "-j"], ["semantics", "--jobs"]])
@pytest.mark.parametrize("number", ["-1", "100000"])
def test_an_absurd_number_of_processes_is_refused(
    capfd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], number: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = call([*command, number], capfd)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and number in err
    assert not list(tmp_path.iterdir())


def test_a_damaged_program_is_named_as_it_was_given(tmp_path: Path, capfd) -> None:
    """The guest calls it /bin/NAME, which nobody has typed."""
    place = tmp_path / "cut"
    place.write_bytes(Path("images/cow-fork/cow-fork.elf").read_bytes()[:100])
    status, out, err = call(["run", str(place)], capfd)
    assert (status, out) == (2, "")
    assert err == f"sandbox: {place}: offset 0x1c: truncated: program headers lie beyond the end of the file\n"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("", "sandbox: IMAGE is an empty word: it names a file or a folder\n"),
        (
            "images",
            "sandbox: images: a folder without a manifest.toml\nit holds images: name one, such as images/above-4g\n",
        ),
        ("sandbox", "sandbox: sandbox: a folder without a manifest.toml\n"),
    ],
    ids=("empty", "collection", "other"),
)
def test_what_is_no_image(word: str, said: str, capfd) -> None:
    status, out, err = call(["run", word], capfd)
    assert (status, out, err) == (2, "", said)
