"""/proc: what the kernel knows of its tasks and itself, as text that is made when it is read.

It may look at everything in the record, and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.kernel import Kernel
from sandbox.kernel.procfs.nodes import Folder

if TYPE_CHECKING:
    from sandbox.kernel.procfs.root import ProcTree

ROOT_INO = 1


def proc_root(kernel: Kernel) -> Folder:
    """The root directory of one kernel's /proc.  What is in it is not even imported before somebody looks."""
    made: list[ProcTree] = []

    def tree() -> ProcTree:
        if not made:
            from sandbox.kernel.procfs.root import ProcTree

            made.append(ProcTree(kernel))
        return made[0]

    root = Folder(ROOT_INO, lambda: tree().names(), lambda name: tree().find(name), lambda: kernel.clock.nanoseconds)
    root.born = kernel.clock.nanoseconds
    return root
