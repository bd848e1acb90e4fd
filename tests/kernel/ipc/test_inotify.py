"""inotify's events do not depend on what this process ran before."""

from __future__ import annotations

from tests.conftest import Run

COOKIE = """_start:
    mov eax, 291                # inotify_init
    int 0x80
    mov edi, eax
    mov ebx, eax
    mov eax, 292                # inotify_add_watch
    mov ecx, offset folder
    mov edx, 0xc0               # IN_MOVED_FROM | IN_MOVED_TO
    int 0x80
    mov eax, 39                 # mkdir
    mov ebx, offset old
    mov ecx, 0755
    int 0x80
    mov eax, 38                 # rename
    mov ebx, offset old
    mov ecx, offset new
    int 0x80
    sub esp, 128
    mov eax, 3                  # read
    mov ebx, edi
    mov ecx, esp
    mov edx, 128
    int 0x80
    mov ebx, [esp + 8]          # the cookie of the first event
    mov edx, [esp + 12]         # its name's length
    cmp ebx, [esp + edx + 24]   # and the second's
    je 1f
    mov ebx, 255
1:  mov eax, 1
    int 0x80
folder: .asciz "/tmp"
old: .asciz "/tmp/old"
new: .asciz "/tmp/new"
"""


def test_cookies_are_each_machines_own(run: Run) -> None:
    """fsnotify_get_cookie of fs/notify counts from 1 on, from boot."""
    first = run(COOKIE)
    assert (first.status, first.signal) == (1, 0)
    assert run(COOKIE).status == 1
