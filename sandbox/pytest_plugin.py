"""The pytest plugin: manifests are tests where a project asks for it, and fixtures make machines.

Nothing of the sandbox is imported before it is used: whoever has the package installed pays for this file alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sandbox.api import Executed, Guest, Image, Kernel, Result, Verdict

INI, MARKER, MANIFEST = "sandbox_images", "sandbox_image", "manifest.toml"


def pytest_addoption(parser: pytest.Parser) -> None:
    sys.meta_path.insert(0, AsTheyAre)
    parser.addini(INI, "folders of sandbox images: the manifests in them, and no others, are tests", "paths", [])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(path, …, broken=True): run the test once for each verdict of these images; it is given as `verdict`",
    )


def pytest_unconfigure() -> None:
    if AsTheyAre in sys.meta_path:
        sys.meta_path.remove(AsTheyAre)


class AsTheyAre:
    """A finder for this package's modules in front of pytest's, which would rewrite the assertions of whoever brings a
    plugin: of four hundred modules (0.9 s, once where pytest may keep them, else each time).  Others find as ever."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] != "sandbox":
            return None
        others = (each for each in sys.meta_path if each is not AsTheyAre and not _rewrites(each))
        return next(filter(None, (each.find_spec(name, path, target) for each in others)), None)


def _rewrites(finder: object) -> bool:
    return type(finder).__module__.startswith("_pytest.assertion")


# -- manifests as tests ----------------------------------------------------------------------------------------------


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.name != MANIFEST:
        return None
    place = file_path.resolve()
    if not any(place.is_relative_to(each) for each in _folders(parent.config)):
        return None
    return ManifestFile.from_parent(parent, path=file_path)


def _folders(config: pytest.Config) -> list[Path]:
    return [Path(each).resolve() for each in config.getini(INI)]


class ManifestFile(pytest.File):
    """One manifest: a test for each paging mode, whole, and broken where a switch is named."""

    def collect(self) -> Iterator[ImageItem]:
        from sandbox.image.manifest import load

        manifest = load(self.path)
        runs = Runs(self.path)
        for paging in [] if manifest.helper else manifest.paging:
            for switch in filter(None, ("whole", manifest.switch)):
                made: ImageItem = ImageItem.from_parent(self, name=_name(paging, switch))
                made.runs, made.paging, made.switch = runs, paging, "" if switch == "whole" else switch
                yield made

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from sandbox.x86.errors import SandboxError

        error = excinfo.value
        return "\n".join(_error_lines(error)) if isinstance(error, SandboxError) else super().repr_failure(excinfo)


def _name(paging: str, switch: str) -> str:
    return f"{paging}-whole" if switch == "whole" else f"{paging}-break-{switch}"


class Runs:
    """The runs of one image, each made when it is first asked for: a broken one takes its limits from the whole one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._image: Image | None = None
        self._whole: dict[str, Verdict] = {}

    @property
    def image(self) -> Image:
        """The image, loaded once."""
        if self._image is None:
            from sandbox.api import image

            self._image = image(self.path)
        return self._image

    def verdict(self, paging: str, switch: str) -> Verdict:
        """What ``sandbox test`` finds: its code, with its limits."""
        from sandbox.suite.check import check_image, limits_of

        whole = self._whole.get(paging)
        if whole is None:
            whole = self._whole[paging] = check_image(self.image, paging)
        return check_image(self.image, paging, switch, limits_of(self.image, whole)) if switch else whole


class Failed(Exception):
    """A verdict that is not as it should be."""

    def __init__(self, image: Image, verdict: Verdict) -> None:
        super().__init__(f"{verdict.name} {verdict.paging}")
        self.image, self.verdict = image, verdict

    def lines(self) -> list[str]:
        """What failed; then explanation, disassembly and walk."""
        from sandbox.api import story

        how = f"--break {self.verdict.switch}" if self.verdict.switch else "whole"
        failures = self.verdict.failures or ["it passed although the kernel was broken"]
        told = story(self.image, self.verdict)
        return [f"{self.verdict.name} {self.verdict.paging} {how}", *failures, *(["", *told] if told else [])]


class ImageItem(pytest.Item):
    """One image in one paging mode, whole or broken."""

    runs: Runs
    paging: str
    switch: str

    def runtest(self) -> None:
        verdict = self.runs.verdict(self.paging, self.switch)
        if not verdict.passed:
            raise Failed(self.runs.image, verdict)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from sandbox.x86.errors import SandboxError

        error = excinfo.value
        if isinstance(error, Failed):
            return "\n".join(error.lines())
        return "\n".join(_error_lines(error)) if isinstance(error, SandboxError) else super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.path.parent.name} {self.name}"


def _error_lines(error: Any) -> list[str]:
    return [error.summary, *error.detail.splitlines()]


# -- marked tests ----------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = list(metafunc.definition.iter_markers(MARKER))
    if not marks:
        return
    work = [each for mark in marks for each in _marked(metafunc.definition.path.parent, mark)]
    names = [f"{runs.path.parent.name}-{_name(paging, switch or 'whole')}" for runs, paging, switch in work]
    metafunc.parametrize("verdict", work, indirect=True, ids=names)


def _marked(folder: Path, mark: pytest.Mark) -> Iterator[tuple[Runs, str, str]]:
    """What a marker names: paths count from the test's folder; ``images/NAME`` is the collection's where none is."""
    from sandbox.image.manifest import load
    from sandbox.runner.target import in_collection

    for name in mark.args:
        here = folder / name
        path = here if here.exists() else in_collection(Path(name))
        manifest = load(path / MANIFEST if path.is_dir() else path)
        runs = Runs(manifest.path)
        for paging in manifest.paging:
            yield runs, paging, ""
            if manifest.switch and mark.kwargs.get("broken", True):
                yield runs, paging, manifest.switch


@pytest.fixture
def verdict(request: pytest.FixtureRequest) -> Verdict:
    """What an image of the marker ``sandbox_image`` came to; one that is not as it should be fails the test."""
    if not hasattr(request, "param"):
        pytest.fail(f"verdict: mark the test with @pytest.mark.{MARKER}(path)", pytrace=False)
    runs, paging, switch = request.param
    found: Verdict = runs.verdict(paging, switch)
    if not found.passed:
        pytest.fail("\n".join(Failed(runs.image, found).lines()), pytrace=False)
    return found


# -- fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine() -> Iterator[Callable[..., Guest]]:
    """``machine(image, **options)``: a guest at its first instruction, as ``sandbox.api.start`` makes it; closed after
    the test."""
    from sandbox import api

    yield from _closed(api.start)


@pytest.fixture
def kernel() -> Iterator[Callable[..., Kernel]]:
    """``kernel(**options)``: a kernel that has booted and runs nothing; closed after the test."""
    from sandbox import api

    yield from _closed(api.Kernel)


def _closed(make: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def go(*arguments: Any, **options: Any) -> Any:
        made.append(make(*arguments, **options))
        return made[-1]

    yield go
    for each in reversed(made):
        each.close()


@pytest.fixture
def assemble() -> Callable[..., Image]:
    """``assemble(text, *arguments, suffix=".S")``: a program or a module of a source's text."""
    from sandbox import api

    return api.source


@pytest.fixture
def run_image(request: pytest.FixtureRequest) -> Callable[..., Result]:
    """``run_image(image, *arguments, **options)``: a whole run's result; paths count from the test folder."""
    from sandbox import api

    def go(image: Any, *arguments: str, **options: Any) -> Result:
        if not isinstance(image, api.Image):
            here = request.path.parent / image
            image = api.image(here if here.exists() else image, *arguments)
        return api.run(image, **options)

    return go


@pytest.fixture
def cpu_vector() -> Callable[..., Executed]:
    """``cpu_vector(code, registers={}, memory={})``: what a few instructions do, as ``sandbox.api.execute`` tells."""
    from sandbox import api

    return api.execute
