"""``sandbox images``: what is committed, built again, compared."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser("images", help=title, description=f"{title.capitalize()}.")
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="images of your own (default: the collection)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--build", action="store_true", help="build every image from its source, in place")
    what.add_argument("--check", action="store_true", help="build aside and compare byte for byte")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.cli.colour import Colour, columns_of
    from sandbox.image.build import build, manifests
    from sandbox.report.width import cut, fit

    folder = _folder(options)
    paint, columns = Colour(sys.stdout), columns_of(sys.stdout)
    if options.build or options.check:
        done = build(write=options.build, folder=folder)
        differ = [each for each in done if not each.same]
        skipped = [each for each in done if each.note.startswith("skipped")]
        if options.json:
            print(json.dumps([{"image": each.name, "same": each.same, "note": each.note} for each in done], indent=2))
            return 1 if options.check and differ else 0
        for each in skipped:
            print(fit(f"{each.name}: {each.note}", columns))
        if options.build:
            count = len(done) - len(skipped)
            print(f"{count} image{'s' * (count != 1)} built, {len(differ)} of them changed")
        else:
            for each in differ:
                print(f"{paint('red', 'differs')}  {each.name}")
            same = sum(each.same for each in done if each not in skipped)
            print(f"{same} of {len(done) - len(skipped)} images are byte for byte what their sources give")
        return 1 if options.check and differ else 0
    known = manifests(folder)
    if options.json:
        rows = [
            {"name": each.name, "kind": each.kind, "title": each.title, "switch": each.switch or None} for each in known
        ]
        print(json.dumps(rows, indent=2))
        return 0
    width = max((len(each.name) for each in known), default=4)
    for image in known:
        print(f"{paint('bold', f'{image.name:{width}}')}  {cut(f'{image.kind:7}  {image.title}', columns - width - 2)}")
    return 0


def _folder(options: argparse.Namespace) -> Path:
    """Where the images are: what an installed package has brought along is not built in its place.

    Raises ConfigurationError.
    """
    from sandbox.home import HOME, INSTALLED
    from sandbox.image.build import manifests
    from sandbox.image.manifest import IMAGES
    from sandbox.x86.errors import ConfigurationError

    folder = IMAGES if options.folder is None else Path(options.folder).resolve()
    if not folder.is_dir() or not manifests(folder):
        raise ConfigurationError(f"{options.folder}: no manifest there", "an image is FOLDER/NAME/manifest.toml")
    if options.build and INSTALLED and folder == IMAGES:
        raise ConfigurationError("--build: this package was installed, not checked out", f"its images are in {HOME}")
    return folder
