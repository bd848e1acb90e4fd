"""``make programs``: bring the packages of the table into build/programs and lay the root out.

What the archive does not have is named and left out: the rows that need it are not run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

from tests.programs.table import PROJECT, ROOT, read, unpacked

UNPACK = PROJECT / "asm" / "images" / "libc" / "unpack.sh"
WANTED = ROOT / ".wanted"
"""The packages, versions and sums that the root was made from: another table makes another root."""
FOLDERS = ("bin", "dev", "etc", "tmp", "usr/bin")


def _made_from() -> str:
    return WANTED.read_text() if WANTED.exists() else ""


def main() -> int:
    """Unpack, link, write; always successful, for a missing archive is no fault of ours."""
    table = read()
    wanted = "".join(f"{each.name} {each.version} {each.sha256}\n" for each in table.packages)
    if unpacked() != {package.name for package in table.packages} or _made_from() != wanted:
        shutil.rmtree(ROOT, ignore_errors=True)
        ROOT.mkdir(parents=True)
        WANTED.write_text(wanted)
        subprocess.run([str(UNPACK), str(ROOT)], input=wanted, text=True, check=False)
    shutil.rmtree(ROOT / "tmp", ignore_errors=True)
    for folder in FOLDERS:
        (ROOT / folder).mkdir(parents=True, exist_ok=True)
    for name in table.links:
        link = ROOT / "bin" / name
        if not link.exists():
            link.symlink_to("busybox")
    for path, text in table.files.items():
        (ROOT / path.lstrip("/")).write_text(text)
    there = unpacked()
    ready = sum(not program.missing for program in table.programs)
    for package in table.packages:
        if package.name not in there:
            print(f"{package.name} {package.version}: not there", file=sys.stderr)
    print(f"build/programs: {ready} of {len(table.programs)} programs of tests/programs.toml can run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
