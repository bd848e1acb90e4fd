"""The frame buffer, an ISA card's memory and the open bus."""

from __future__ import annotations

from sandbox.machine.devices.framebuffer import HEIGHT, WIDTH, FrameBuffer
from sandbox.machine.devices.isacard import SIGNATURE, IsaMemory
from sandbox.machine.devices.openbus import OpenBus


def test_frame_buffer() -> None:
    screen = FrameBuffer()
    screen.write_window(5, 4, 0x04030201)
    assert screen.read_window(6, 2) == 0x0302
    assert screen.stores == 1
    picture = screen.pgm()
    assert picture.startswith(b"P5 320 200 255\n")
    assert len(picture) == 15 + WIDTH * HEIGHT
    assert picture[15 + 5 : 15 + 9] == bytes((1, 2, 3, 4))


def test_letters() -> None:
    screen = FrameBuffer()
    for y in range(HEIGHT // 2):
        for x in range(0, WIDTH, 4):
            screen.write_window(y * WIDTH + x, 4, 0xFFFFFFFF if x < WIDTH // 2 else 0)
    lines = screen.text(40, 20).split("\n")
    assert len(lines) == 20
    assert lines[0] == "@" * 20
    assert lines[-1] == ""


def test_the_signature_stays() -> None:
    card = IsaMemory()
    card.write_window(0, 4, 0)
    card.write_window(6, 4, 0xAABBCCDD)
    assert card.memory[: len(SIGNATURE)] == SIGNATURE
    assert card.read_window(8, 2) == 0xAABB
    card.write_window(100, 1, 7)
    assert card.read_window(100, 4) == 7


def test_open_bus() -> None:
    bus = OpenBus(4096)
    bus.write_window(0, 4, 5)
    assert bus.read_window(0, 4) == 0xFFFFFFFF
    assert bus.read_window(9, 1) == 0xFF
