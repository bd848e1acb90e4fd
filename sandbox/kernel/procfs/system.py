"""Files of /proc about the machine, in the formats of proc(5)."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EINVAL, EIO, KernelError
from sandbox.kernel.abi.flags import POLLIN
from sandbox.kernel.abi.poll import POLLRDNORM
from sandbox.kernel.abi.uts import HOSTNAME, OSRELEASE, OSTYPE, VERSION
from sandbox.kernel.base.time import SECOND, TICK
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.procfs.nodes import Folder, Link, Make, Text, TextFile, fixed
from sandbox.kernel.task.task import State
from sandbox.kernel.vfs.inode import Inode
from sandbox.kernel.vfs.operations import ALWAYS
from sandbox.x86.paging import PAGE_SIZE

FIRST_INO = 10
CPU_FLAGS = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2"
FILE_SYSTEMS = (("nodev", "proc"), ("nodev", "tmpfs"), ("nodev", "devtmpfs"), ("nodev", "overlay"), ("", "ext4"))
PID_MAX = 32768
CORE_PATTERN_BYTES = 127


def mounts(kernel: Kernel) -> bytes:
    """/proc/mounts: device, place, type, options."""
    lines = [f"{device} {path} {kind} {options} 0 0\n" for device, path, kind, options in kernel.files.mounts]
    return "".join(lines).encode()


def system_files(kernel: Kernel) -> dict[bytes, Inode]:
    """All of them, by name."""
    texts: dict[bytes, Make] = {
        b"cmdline": lambda: f"{kernel.config.boot}\n".encode(),
        b"cpuinfo": lambda: _cpuinfo(kernel),
        b"filesystems": lambda: "".join(f"{nodev}\t{name}\n" for nodev, name in FILE_SYSTEMS).encode(),
        b"loadavg": lambda: _loadavg(kernel),
        b"meminfo": lambda: _meminfo(kernel),
        b"stat": lambda: _stat(kernel),
        b"swaps": lambda: b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
        b"uptime": lambda: _uptime(kernel),
        b"version": lambda: f"{OSTYPE} version {OSRELEASE} (sandbox) {VERSION}\n".encode(),
    }
    files: dict[bytes, Inode] = {}
    f_op = TextFile(kernel.uaccess)
    for ino, (name, make) in enumerate(texts.items(), FIRST_INO):
        files[name] = text = Text(f_op, ino, make)
        text.unmappable, text.polls = EIO, POLLIN | POLLRDNORM if name == b"swaps" else ALWAYS
    files[b"net"] = Link(FIRST_INO + 31, lambda: b"self/net")
    files[b"mounts"] = Link(FIRST_INO + 30, lambda: b"self/mounts")
    files[b"sys"] = _sys(kernel, f_op, FIRST_INO + 40)
    return files


def _sys(kernel: Kernel, f_op: TextFile, ino: int) -> Folder:
    """/proc/sys: settings that programs look up."""
    settings = {
        b"kernel": {
            b"ostype": OSTYPE, b"osrelease": OSRELEASE, b"version": VERSION, b"hostname": HOSTNAME,
            b"domainname": "(none)", b"pid_max": str(PID_MAX), b"ngroups_max": "65536", b"randomize_va_space": "0",
        },
        b"vm": {b"overcommit_memory": "0", b"overcommit_ratio": "50", b"mmap_min_addr": "65536",
               b"max_map_count": "65530"},
        b"fs": {b"file-max": "65536", b"pipe-max-size": "1048576"},
    }  # fmt: skip
    folders: dict[bytes, Inode] = {}
    for number, (folder, values) in enumerate(settings.items(), 1):
        first = ino + 20 * number
        texts: dict[bytes, Inode] = {
            name: _setting(f_op, first + at, value) for at, (name, value) in enumerate(values.items(), 1)
        }
        if folder == b"kernel":
            texts[b"core_pattern"] = _core_pattern(f_op, first + 19)
            texts[b"tainted"] = _tainted(kernel, f_op, first + 18)
        folders[folder] = fixed(first, texts)
    return fixed(ino, folders)


def _setting(f_op: TextFile, ino: int, value: str) -> Text:
    text = Text(f_op, ino, lambda: value.encode() + b"\n")
    text.polls = ALWAYS
    return text


def _tainted(kernel: Kernel, f_op: TextFile, ino: int) -> Text:
    """A module that was built elsewhere sets a bit, a program may add others; none goes away."""
    text = Text(f_op, ino, lambda: b"%d\n" % kernel.tainted, 0o644)
    text.polls = ALWAYS

    def take(data: bytes) -> None:
        if not data.strip().isdigit():
            raise KernelError(EINVAL)
        kernel.tainted |= int(data)

    text.take = take
    return text


def _core_pattern(f_op: TextFile, ino: int) -> Text:
    """Kept and shown: no core file is ever written."""
    held = [b"core\n"]
    text = Text(f_op, ino, lambda: held[0], 0o644)
    text.polls = ALWAYS

    def take(data: bytes) -> None:
        held[0] = data.split(b"\n")[0][:CORE_PATTERN_BYTES] + b"\n"

    text.take = take
    return text


def _idle(kernel: Kernel) -> int:
    """Nanoseconds in which no CPU ran."""
    return max(0, kernel.clock.now - kernel.clock.charged - sum(cpu.vcpu.clock for cpu in kernel.cpus))


def _uptime(kernel: Kernel) -> bytes:
    return f"{kernel.clock.now / SECOND:.2f} {_idle(kernel) / SECOND:.2f}\n".encode()


def _loadavg(kernel: Kernel) -> bytes:
    running = sum(task.state is State.RUNNING for task in kernel.tasks.values())
    return f"0.00 0.00 0.00 {running}/{len(kernel.tasks)} {kernel.tasks.last_pid}\n".encode()


def _meminfo(kernel: Kernel) -> bytes:
    frames = kernel.pgdat
    kilobytes = PAGE_SIZE // 1024
    total, free, cached = (
        frames.total_frames * kilobytes,
        frames.free_frames * kilobytes,
        len(kernel.pagecache) * kilobytes,
    )
    rows = {
        "MemTotal": total, "MemFree": free, "MemAvailable": free + cached, "Buffers": 0, "Cached": cached,
        "SwapCached": 0,
        "HighTotal": frames.high.total * kilobytes, "HighFree": frames.zone_free(frames.high) * kilobytes,
        "LowTotal": (frames.total_frames - frames.high.total) * kilobytes,
        "LowFree": (frames.free_frames - frames.zone_free(frames.high)) * kilobytes,
        "SwapTotal": 0, "SwapFree": 0,
    }  # fmt: skip
    return "".join(f"{name + ':':15} {value:8} kB\n" for name, value in rows.items()).encode()


def _cpuinfo(kernel: Kernel) -> bytes:
    rows = []
    for cpu in kernel.cpus:
        rows.append(
            f"processor\t: {cpu.index}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel name\t: emulated i686\n"
            f"fpu\t\t: yes\nwp\t\t: {'no' if kernel.broken('no-wp') else 'yes'}\nflags\t\t: {CPU_FLAGS}"
            f"{' nx' if kernel.tables.nx else ''}\n\n"
        )
    return "".join(rows).encode()


def _stat(kernel: Kernel) -> bytes:
    idle = _idle(kernel) // TICK
    rows = [(cpu.index, cpu.vcpu.clock // TICK) for cpu in kernel.cpus]
    lines = [f"cpu  {sum(ticks for _, ticks in rows)} 0 0 {idle} 0 0 0 0 0 0"]
    lines += [f"cpu{index} {ticks} 0 0 {idle} 0 0 0 0 0 0" for index, ticks in rows]
    running = sum(task.state is State.RUNNING for task in kernel.tasks.values())
    lines += [
        "intr 0", f"ctxt {kernel.sched.switches}", f"btime {kernel.clock.epoch // SECOND}",
        f"processes {kernel.tasks.last_pid}",
        f"procs_running {running}", "procs_blocked 0",
    ]  # fmt: skip
    return ("\n".join(lines) + "\n").encode()
