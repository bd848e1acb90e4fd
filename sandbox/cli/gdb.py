"""``sandbox gdb``: gdb attaches by its remote protocol."""

from __future__ import annotations

import argparse
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sandbox.cli.colour import print_lines
from sandbox.cli.debug import add_image_and_machine, builder
from sandbox.x86.errors import ConfigurationError

PORT = 1234
LEAVES = 1.0
"""Seconds that a gdb which is about to leave has before the next one is turned away."""


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser("gdb", help=title, description=f"{title.capitalize()}.")
    add_image_and_machine(parser)
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"TCP port (default: {PORT}; 0 for any)")
    parser.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="address (default: this host only)")
    parser.add_argument(
        "--threads",
        choices=("tasks", "processes", "cpus"),
        default="tasks",
        help="what gdb's threads are: all tasks together (default), those of its processes, or CPUs",
    )
    parser.add_argument("--once", action="store_true", help="end when the first gdb leaves")
    parser.set_defaults(run=run, commands=None)


def run(options: argparse.Namespace) -> int:
    from sandbox.debug.gdb import access, threads
    from sandbox.debug.gdb.stub import Stub
    from sandbox.debug.worker import Remote

    signal.signal(signal.SIGTERM, _end)
    with _listener(options) as listener, Remote(builder(options, person=True)) as remote:
        remote.call(access.catch_signals)
        if options.threads == "cpus":
            remote.call(threads.number_by_cpus)
        host, port = listener.getsockname()[:2]
        print_lines([*remote.first.lines, f"gdb: target remote {host}:{port}"])
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            with connection, _no_other(listener):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ended = Stub(remote, connection, options.threads == "processes").serve()
            if ended or options.once:
                return 0


def _end(number: int, _: object) -> None:
    """Leave in order, so that the process that runs the machine ends too."""
    raise SystemExit(128 + number)


@contextmanager
def _no_other(listener: socket.socket) -> Iterator[None]:
    """While one gdb is served, others are told so: their connection is closed."""
    ours, theirs = socket.socketpair()

    def turn_away() -> None:
        while theirs not in select.select([listener, theirs], [], [])[0]:
            if select.select([theirs], [], [], LEAVES)[0]:
                return
            listener.accept()[0].close()

    thread = threading.Thread(target=turn_away, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ours.close()
        thread.join()
        theirs.close()


def _listener(options: argparse.Namespace) -> socket.socket:
    """Raises ConfigurationError."""
    if not 0 <= options.port < 1 << 16:
        raise ConfigurationError(f"--port {options.port}: 0 to 65535")
    try:
        return socket.create_server((options.listen, options.port), reuse_port=False)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (while")[0]
        raise ConfigurationError(f"{options.listen}:{options.port}: {why}") from error
