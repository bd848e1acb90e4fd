"""A module by itself: loaded, unloaded, and nothing of it left behind."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.result import Result
from sandbox.runner.session import MachineSession, Streams, file_system
from sandbox.runner.target import ModuleFile


class ModuleSession(MachineSession):
    """One module (after those that it needs) on one fresh machine; what it says by printk is standard output.

    ``finish`` loads it, which runs ``init_module``, and unloads it.  A frame, a piece of kmalloc or an area that is
    still held then makes the run fail.  Raises ConfigurationError for an impossible machine.
    """

    def __init__(
        self,
        module: ModuleFile,
        config: KernelConfig,
        streams: Streams | None = None,
        needs: Sequence[ModuleFile] = (),
    ) -> None:
        files = file_system(config, streams)
        super().__init__(config, files, streams, [*needs, module])
        self.kernel.log.console = self.streams.stdout or self.captured[0]
        self._loaded = False

    def load(self) -> None:
        """Load and initialize it.  Raises ImageError, ModuleError, and what its code comes to."""
        if not self._loaded:
            self._loaded = True
            self.load_modules()

    def finish(self) -> Result:
        """Run it to its end.  Raises SandboxError only for bad files and faults of our own."""
        result = Result()
        before = self.held()
        if self.guard(result, self.load) and self.guard(result, self.unload_modules):
            self.tell_leaks(result, before, self.held())
        if self.kernel.log.refused and not result.error:
            result.error = f"{self.to_load[-1].name}: what it says cannot be written: {self.kernel.log.refused}"
        return self.complete(result)
