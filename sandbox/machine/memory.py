"""PROVISIONAL (lead): to be replaced by the machine helper's."""
from __future__ import annotations
import ctypes, enum, mmap
class Reason(enum.Enum):
    TABLE = "table"; STRUCT_PAGE = "struct page"; IMAGE = "image"; DMA = "dma"; PROCESSOR = "processor"
class PhysicalMemory:
    def __init__(self, ram, holes=()):
        self.ram = ram
        self._m = mmap.mmap(-1, ram, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
        self.host_base = ctypes.addressof(ctypes.c_char.from_buffer(self._m))
        mv = memoryview(self._m)
        self._mut = mv; self.bytes = mv.toreadonly(); self.words = mv.cast("I").toreadonly(); self.quads = mv.cast("Q").toreadonly()
        low = min(ram, 1 << 31)
        self.ranges = [(0, 0xA0000, 0), (0x100000, low - 0x100000, 0x100000)]
        if ram > low: self.ranges.append((1 << 32, ram - low, low))
    def host_index(self, p): return p if p < 1 << 31 else p - (1 << 32) + (1 << 31)
    def mutable_words(self, reason): return self._mut.cast("I")
    def mutable_quads(self, reason): return self._mut.cast("Q")
    def host_bytes(self): return {}
    def host_write(self, p, data, reason):
        i = self.host_index(p); self._mut[i:i + len(data)] = data
