"""What IMAGE on the command line names: a manifest, an ELF program or module, or a source to be assembled first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sandbox.image.elf import is_elf, is_relocatable, parse_executable
from sandbox.image.files import TEXT_LIMIT, read_file
from sandbox.image.manifest import Manifest, ManifestError, load
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.races import parse_point
from sandbox.records import dataclass, field
from sandbox.x86.errors import SandboxError

RECORDING = b"\x89SBXREC\n"
"""How a file begins that ``sandbox record`` has made."""
SOURCE_SUFFIXES = (".S", ".s", ".asm", ".c")


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """An object file to be loaded, and what insmod would be told: ``irq=5``."""

    name: str
    data: bytes
    options: tuple[str, ...] = ()


class NoSuchImage(SandboxError):
    """IMAGE names nothing that can run."""

    exit_status = 2


@dataclass(slots=True)
class Target:
    """One image, loaded: bytes, arguments, and what its manifest wants of the machine."""

    name: str
    kind: str
    data: bytes
    arguments: list[str] = field(default_factory=list)
    manifest: Manifest | None = None
    modules: list[ModuleFile] = field(default_factory=list)
    """Modules that are loaded before it."""

    def config(self, **changes: object) -> KernelConfig:
        """The machine that the manifest asks for, or the default one, with changes."""
        values: dict[str, object] = {}
        if self.manifest is not None:
            manifest = self.manifest
            values = {
                "ram": manifest.ram,
                "cpus": manifest.cpus,
                "highmem": manifest.highmem,
                **({} if manifest.direct_map is None else {"direct_map": manifest.direct_map}),
                "paging": manifest.paging[0],
                "boot": manifest.boot,
                "policies": dict(manifest.policies),
                "devices": tuple(manifest.devices),
                "fail_allocation": manifest.fail_allocation,
                "files": _files(manifest),
                "seed": manifest.seed,
                "races": _races(manifest),
                "quantum": manifest.quantum,
                "time_limit": manifest.time_limit,
            }
        values.update({key: value for key, value in changes.items() if value is not None})
        return KernelConfig(**values)  # type: ignore[arg-type]


def _races(manifest: Manifest) -> tuple[tuple[str, int], ...] | None:
    try:
        return tuple(parse_point(text) for text in manifest.races) or None
    except ValueError as error:
        raise ManifestError(manifest.path, "machine.races", str(error)) from error


def _files(manifest: Manifest) -> dict[str, bytes | Path]:
    """``HOST:GUEST`` of a manifest, where HOST counts from the manifest's folder."""
    found: dict[str, bytes | Path] = {}
    for pair in manifest.files:
        host, colon, guest = pair.rpartition(":")
        if not colon or not host or not guest.startswith("/"):
            raise ManifestError(manifest.path, "image.files", f"{pair!r}: give HOST:GUEST")
        found[guest] = manifest.path.parent / host
    return found


def on_disk(path: Path) -> bool:
    """The path exists; one that the host cannot even look up (too long, say) does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_recording(path: str | Path) -> bool:
    """The file begins as a recording does."""
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            return file.read(len(RECORDING)) == RECORDING
    except (OSError, ValueError):
        return False


def in_collection(path: Path) -> Path:
    """``images`` and ``images/NAME`` mean the collection from any folder that has no such file itself."""
    from sandbox.image.manifest import IMAGES

    if on_disk(path) or path.parts[:1] != (IMAGES.name,):
        return path
    return IMAGES.parent / path


def resolve(image: str | Path, arguments: Sequence[str] = ()) -> Target:
    """Find and load an image.

    Raises NoSuchImage, ImageError, UnusableFile, ManifestError, AssemblyError, ToolMissing, NoStart, NoLibrary.
    """
    if not str(image):
        raise NoSuchImage("IMAGE is an empty word: it names a file or a folder")
    path = in_collection(Path(image))
    folder = path if on_disk(path) and path.is_dir() else None
    if folder is not None:
        path = folder / "manifest.toml"
    if not on_disk(path):
        what = "no such file" if folder is None else "a folder without a manifest.toml"
        raise NoSuchImage(f"{image}: {what}", _suggest(str(image)) if folder is None else _held_by(folder, str(image)))
    if path.suffix == ".toml":
        return _from_manifest(load(path), arguments)
    if path.suffix in SOURCE_SUFFIXES:
        return _from_source(path, arguments)
    data = read_file(path)
    if is_relocatable(data):
        return Target(path.stem, "module", data, list(arguments))
    if is_elf(data):
        parse_executable(data, str(image))  # exec knows it only by the name that it has in the guest
        return Target(path.name, "program", data, list(arguments))
    if data.startswith(RECORDING):
        raise NoSuchImage(f"{image}: a recording, not an image", "run, debug and gdb take recordings")
    raise NoSuchImage(
        f"{image}: neither an ELF file, a manifest, a recording, nor a source (.S, .asm, .c)",
        'A flat ROM image runs through a manifest with kind = "rom".',
    )


def _from_source(path: Path, arguments: Sequence[str]) -> Target:
    """What a source is follows from the names that it defines."""
    import tempfile

    from sandbox.image.hosted import build_source

    read_file(path, TEXT_LIMIT)
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "image"
        kind = build_source(path, built)
        return Target(path.stem, kind, built.read_bytes(), list(arguments))


def module_file(image: str | Path) -> ModuleFile:
    """A module to be loaded beside something else.  Raises NoSuchImage, and what ``resolve`` raises."""
    target = resolve(image)
    if target.kind != "module":
        raise NoSuchImage(f"{image}: a {target.kind}, not a module", "a module is an object file with init_module")
    return ModuleFile(target.name, target.data, tuple(target.arguments))


def _how_to_build(manifest: Manifest) -> str:
    from sandbox.image.manifest import IMAGES

    folder = manifest.path.parent
    return "run `make images`" if folder.resolve().parent == IMAGES else f"run `sandbox images --build {folder}`"


def _from_manifest(manifest: Manifest, arguments: Sequence[str]) -> Target:
    if not manifest.image.is_file():
        raise NoSuchImage(f"{manifest.path}: image.file: {manifest.file} is not built", _how_to_build(manifest))
    modules = [module_file(manifest.path.parents[1] / name) for name in manifest.modules]
    return Target(
        manifest.name,
        manifest.kind,
        read_file(manifest.image),
        [*manifest.arguments, *arguments],
        manifest,
        modules,
    )


def _held_by(folder: Path, image: str) -> str:
    names = sorted(path.parent.name for path in folder.glob("*/manifest.toml"))
    return f"it holds images: name one, such as {image.rstrip('/')}/{names[0]}" if names else _suggest(image)


def _suggest(image: str) -> str:
    import difflib

    from sandbox.image.manifest import IMAGES

    names = [path.parent.name for path in IMAGES.glob("*/manifest.toml")]
    close = difflib.get_close_matches(image.rstrip("/").split("/")[-1], names, 3)
    return "did you mean " + " or ".join(f"images/{name}" for name in close) + "?" if close else ""
