"""A linear frame buffer: 320 by 200 pixels of one byte each, from the first byte of its window on.

A pixel's value is a shade, 0 black to 255 white.  What lies behind the last pixel in the window of 64 KB is memory that
nobody sees.
"""

from __future__ import annotations

FRAME_BUFFER_ADDRESS = 0x90000000
WIDTH, HEIGHT = 320, 200
WINDOW_BYTES = 1 << 16
_SHADES = " .:-=+*#%@"


class FrameBuffer:
    """The picture; ``stores`` counts accesses of the CPU that wrote to it."""

    name = "framebuffer"
    window_bytes = WINDOW_BYTES

    def __init__(self) -> None:
        self.memory = bytearray(WINDOW_BYTES)
        self.stores = 0

    def read_window(self, offset: int, size: int) -> int:
        return int.from_bytes(self.memory[offset : offset + size], "little")

    def write_window(self, offset: int, size: int, value: int) -> None:
        self.stores += 1
        self.memory[offset : offset + size] = value.to_bytes(size, "little")

    def pgm(self) -> bytes:
        """The picture as a portable graymap."""
        return b"P5 %d %d 255\n" % (WIDTH, HEIGHT) + bytes(self.memory[: WIDTH * HEIGHT])

    def text(self, columns: int = 80, rows: int = 25) -> str:
        """The picture in letters: the mean of each cell as one of ten shades."""
        wide, high = WIDTH // columns, HEIGHT // rows
        lines = []
        for row in range(rows):
            cells = []
            for column in range(columns):
                total = sum(
                    sum(self.memory[at : at + wide])
                    for at in range(row * high * WIDTH + column * wide, (row + 1) * high * WIDTH, WIDTH)
                )
                cells.append(_SHADES[total * len(_SHADES) // (wide * high * 256)])
            lines.append("".join(cells).rstrip())
        return "\n".join(lines)
