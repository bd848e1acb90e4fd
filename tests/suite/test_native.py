"""The images against the real thing: every program that says it is native runs on this machine's CPU and kernel.

What a manifest expects is thereby not our opinion.  An x86-64 Linux host has to be able to run them; elsewhere there is
nothing to compare with.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from sandbox.image.manifest import Manifest, load

IMAGES = Path(__file__).resolve().parents[2] / "images"
STACK = 8 << 20
SECONDS = 30.0
FEWEST = 45

ON_X86_LINUX = platform.system() == "Linux" and platform.machine() in ("x86_64", "i686")

pytestmark = pytest.mark.skipif(not ON_X86_LINUX, reason="i386 programs need an x86 Linux host")


def native_programs() -> list[Manifest]:
    """The manifests of all programs that run on a real machine."""
    found = [load(path) for path in sorted(IMAGES.glob("*/manifest.toml"))]
    return [manifest for manifest in found if manifest.kind == "program" and manifest.native]


def _limits() -> None:
    """In the child: the stack limit that the sandbox has, and no core files."""
    resource.setrlimit(resource.RLIMIT_STACK, (STACK, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_native(manifest: Manifest) -> str:
    """Run one program; what was not as its manifest says, or an empty string."""
    with subprocess.Popen(
        [str(manifest.image), *manifest.arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/bin:/usr/bin", "HOME": "/"},
        preexec_fn=_limits,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(manifest.stdin.encode(), SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return f"still running after {SECONDS:g} s"
    failure = _compare(manifest, process.returncode, output)
    if failure:
        with contextlib.suppress(ProcessLookupError):  # a program that gives up may leave children that wait for it
            os.killpg(process.pid, signal.SIGKILL)
    return failure


def _compare(manifest: Manifest, status: int, output: bytes) -> str:
    ending = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    wanted = manifest.signal or f"exit status {manifest.status}"
    if ending != wanted:
        return f"{ending}, expected {wanted}"
    if manifest.stdout is not None and output != manifest.stdout.encode():
        return f"printed {output!r}, expected {manifest.stdout!r}"
    return ""


def test_every_native_image_passes_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    programs = native_programs()
    failures = {manifest.name: why for manifest in programs if (why := run_native(manifest))}
    with capsys.disabled():
        print(f"\n{len(programs)} images ran natively, {len(failures)} of them not as expected")
    assert not failures
    assert len(programs) >= FEWEST, "an image was lost, or marked as not native"
