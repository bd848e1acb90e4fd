"""What came from outside is given again in its order; expectations are what the host was made to say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox.kernel.base.tape import Door, HostTimes, NotRepeatable, Tape, TapeEnds


def rewound(tape: Tape, position: int = 0) -> Tape:
    """The same process as it was when it had come so far."""
    tape.position = position
    return tape


def fails(number: int) -> bytes:
    raise OSError(number, os.strerror(number))


def never() -> bytes:
    pytest.fail("the host is asked a second time")


def test_answers_come_again_and_the_host_is_not_asked() -> None:
    tape = Tape()
    assert tape.ask(Door.FILES, b"a", lambda: b"first") == b"first"
    assert tape.input(5, lambda size: b"x" * size) == b"xxxxx"
    rewound(tape)
    assert tape.replaying
    assert tape.ask(Door.FILES, b"a", never) == b"first"
    assert tape.input(5, lambda size: never()) == b"xxxxx"
    assert not tape.replaying


def test_errors_of_the_host_come_again() -> None:
    tape = Tape()
    with pytest.raises(OSError, match="Input/output error"):
        tape.ask(Door.FILES, b"a", lambda: fails(5))
    with pytest.raises(OSError) as caught:
        rewound(tape).ask(Door.FILES, b"a", never)
    assert caught.value.errno == 5


def test_another_question_is_another_future() -> None:
    """What had been read of standard input comes again, and what was answered is forgotten."""
    tape = Tape()
    tape.input(3, lambda size: b"abc")
    here = tape.position
    tape.input(3, lambda size: b"def")
    tape.ask(Door.FILES, b"old", lambda: b"old")
    rewound(tape, here)
    assert tape.ask(Door.FILES, b"new", lambda: b"new") == b"new"
    assert tape.waiting_input == 3
    assert tape.input(2, lambda size: never()) == b"de"
    assert tape.input(2, lambda size: never()) == b"f"
    assert tape.input(2, lambda size: b"gh") == b"gh"


def test_a_way_to_the_past_must_be_the_same_way() -> None:
    tape = Tape()
    tape.ask(Door.FILES, b"old", lambda: b"old")
    rewound(tape).strict = True
    with pytest.raises(NotRepeatable):
        tape.ask(Door.FILES, b"new", never)


def test_a_recording_is_all_there_is() -> None:
    tape = Tape()
    tape.input(3, lambda size: b"abc")
    again = Tape(tape.data(), final=True)
    assert again.input(3, lambda size: never()) == b"abc"
    with pytest.raises(TapeEnds, match="the recording ends here"):
        again.input(3, lambda size: never())


def test_copies_share_it() -> None:
    """A copy goes on from where it was made, with what the other has added since (fork(2))."""
    tape = Tape()
    tape.input(1, lambda size: b"a")
    ours, theirs = os.pipe()
    go, went = os.pipe()
    child = os.fork()
    if not child:
        os.read(go, 1)
        os.write(theirs, tape.input(1, lambda size: b"wrong"))
        os._exit(0)
    assert tape.input(1, lambda size: b"b") == b"b"
    os.write(went, b"!")
    assert os.read(ours, 1) == b"b"
    os.waitpid(child, 0)
    for each in (ours, theirs, go, went):
        os.close(each)


def test_times_are_shown_again() -> None:
    """A look that nobody took before shows what the last one did, and the clock never goes back."""
    times = HostTimes()
    assert [times.at(now, lambda now=now: now * 10) for now in (1, 5, 9)] == [10, 50, 90]  # type: ignore[misc]
    again = HostTimes(times.data())
    assert [again.at(now, lambda: pytest.fail("asked")) for now in (1, 3, 5, 7)] == [10, 10, 50, 50]
    assert again.before_end(8) and not again.before_end(9)
    assert again.at(9, lambda: pytest.fail("asked")) == 90
    assert again.at(11, lambda: 95) == 95


def test_a_tape_that_nobody_has_keeps_no_descriptor() -> None:
    """Found by fuzzing recordings: each tape left its four shared files open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        Tape(b"", b"", b"", final=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
