"""/proc: what the kernel knows of its tasks and itself, as text that is made when it is read."""

from sandbox.kernel.fs.proc.root import ProcRoot

__all__ = ["ProcRoot"]
