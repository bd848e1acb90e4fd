"""``sandbox disasm``: a program's code with its symbols, a raw file, or bytes given in hexadecimal."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser("disasm", help=title, description=f"{title.capitalize()}.")
    parser.add_argument("what", metavar="FILE|HEX", help="ELF program, manifest, raw file, or bytes such as '0f 0b c3'")
    parser.add_argument("--address", type=lambda text: int(text, 0), default=0, help="linear address of raw bytes")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.cli.colour import Colour
    from sandbox.image.disassemble import disassemble
    from sandbox.image.elf import is_elf, parse_executable, symbols
    from sandbox.runner.target import NoSuchImage, on_disk, resolve
    from sandbox.x86.errors import SandboxError

    path = Path(options.what)
    names: dict[int, str] = {}
    if on_disk(path):
        if path.is_dir() or path.suffix in (".toml", ".S", ".s", ".asm", ".c"):
            data = resolve(path).data
        else:
            data = path.read_bytes()
        pieces = [(options.address, data)]
        if is_elf(data):
            program = parse_executable(data, path.name)
            names = {address: name for name, address in symbols(data).items()}
            pieces = []
            for segment in program.segments:
                if segment.flags & 1:
                    start = max(segment.vaddr, program.phdr_vaddr + 32 * program.phnum if program.phdr_vaddr else 0)
                    pieces.append(
                        (start, data[segment.offset + start - segment.vaddr : segment.offset + segment.filesz])
                    )
    else:
        try:
            pieces = [(options.address, bytes.fromhex(options.what.replace("0x", "").replace(",", " ")))]
        except ValueError:
            raise NoSuchImage(f"{options.what}: neither a file nor bytes in hexadecimal") from None
    if not any(data for _, data in pieces):
        raise SandboxError(f"{options.what}: no code in it")
    paint = Colour(sys.stdout)
    rows = []
    for start, data in pieces:
        at = 0
        while at < len(data):
            for each in disassemble(data[at:], start + at):
                rows.append((each.address, each.raw, each.text))
                at += each.size
            if at < len(data):
                rows.append((start + at, data[at : at + 1], f".byte {data[at]:#04x}"))
                at += 1
    if options.json:
        print(json.dumps([{"address": a, "bytes": raw.hex(), "text": text} for a, raw, text in rows], indent=2))
        return 0
    for address, raw, text in rows:
        if address in names:
            print(f"\n{paint('bold', names[address])}:")
        print(f"  {address:08x}  {paint('dim', f'{raw.hex(chr(32)):24}')}  {text}")
    return 0
