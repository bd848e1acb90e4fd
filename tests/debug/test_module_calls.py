"""What a module calls are functions: known by name, and ``finish`` comes back into the module."""

from __future__ import annotations

import pytest

from tests.debug.test_travel import remote


def last(lines: list[str]) -> str:
    return next(line for line in reversed(lines) if line.startswith("->"))


@pytest.mark.parametrize("paging", ["pae", "legacy"])
@pytest.mark.parametrize(
    ("image", "function", "caller"),
    [
        ("bug-guard", "memcpy", "append+"),
        ("vmalloc", "vmalloc", "init_module+"),
        ("bug-guard", "append", "init_module+"),
    ],
)
def test_finish_comes_back_to_the_caller(paging: str, image: str, function: str, caller: str) -> None:
    """In machine code, in a stub that Python answers, in the module itself."""
    with remote(image, paging=paging) as made:
        made.execute(f"break {function}")
        assert f"<{function}" in last(made.execute("continue").lines)
        made.execute("delete")
        assert f"<{caller}" in last(made.execute("finish").lines)


def test_finish_behind_a_modules_function_comes_back_to_the_program() -> None:
    with remote("bug-cow") as made:
        for command in ("break unpin", "continue", "finish"):
            made.execute(command)
        assert "<main+" in last(made.execute("finish").lines)


def test_what_python_answers_has_its_name() -> None:
    """``vmalloc`` is a stub of ``export_stubs``; ``clear_user`` is another routine's second name."""
    with remote("vmalloc") as made:
        assert made.execute("print vmalloc").lines[0].endswith("<vmalloc>")
        assert made.execute("print clear_user").error == ""
        assert "break vfree" in made.complete("break vf")


@pytest.mark.parametrize(("image", "says"), [("kmalloc-twice", "freed twice"), ("kmap-clash", "which is open")])
def test_a_module_that_is_stopped_can_be_looked_at(image: str, says: str) -> None:
    """At the call that is wrong, while all is still there; from there the run ends as it does without a debugger."""
    with remote(image) as made:
        stop = made.execute("continue").stop
        assert stop is not None
        assert stop.headline.startswith("kernel code is about to end the run: ") and says in stop.headline
        assert made.execute("print $esp").lines[0].startswith("0xff")
        end = made.execute("continue")
        assert end.stop is not None and end.stop.ended and says in end.stop.headline


def test_going_back_from_there_finds_the_call() -> None:
    with remote("kmalloc-twice") as made:
        for command in ("continue", "break kfree"):
            made.execute(command)
        assert "<kfree>" in last(made.execute("reverse-continue").lines)
