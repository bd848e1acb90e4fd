"""The package as a wheel: what stands beside it in a checkout, images and their sources, goes into its `share`.

Everything else is in ``pyproject.toml``.  An editable install (``make setup``) uses the checkout's own.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHARED = ("asm", "images")


class BuildPackage(build_py):
    """Modules and package data, then the files beside them, with their modes: programs stay executable."""

    def run(self) -> None:
        super().run()
        if getattr(self, "editable_mode", False):
            return
        share = Path(self.build_lib) / "sandbox" / "share"
        shutil.rmtree(share, ignore_errors=True)
        for name in SHARED:
            shutil.copytree(name, share / name)


setup(cmdclass={"build_py": BuildPackage})
