# A private file mapping: loads see the file, stores do not reach it.
#
#   map A, map B, both MAP_PRIVATE of this program's own file
#   load A          the page cache's frame, read-only in the entry
#   store A         a copy for this process alone: the cache, and everybody else's view, stay
#   load B          the file
#   read(2)         the file
#   a child's store to A    copies once more: the private page is shared by fork like any other
#
# Faults: 0x20000000: user read not-present -> file-read; user write protection -> cow-copy; 0x20001000: user write
# not-present -> file-private (a store as first touch copies at once); 0x30000000: user read not-present -> file-read.

        .include "linux.inc"

        .set    A, 0x20000000
        .set    B, 0x30000000
        .set    ELF, 0x464C457F

        .globl  _start
_start:
        mov     ebp, [esp+4]                # argv[0]
        sys     open, ebp, O_RDONLY
        mov     [file], eax
        sys     mmap2, A, 2*PAGE, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, [file], 0
        expect  eax, A, 1
        sys     mmap2, B, 2*PAGE, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, [file], 0
        expect  eax, B, 2

        expect_at A, ELF, 3
        mov     dword ptr [A], 0x11111111
        expect_at A, 0x11111111, 4
        expect_at A+4, 0x00010101, 5        # the rest of the page came along
        mov     dword ptr [A+PAGE], 0x22222222
        expect_at A+PAGE+4, 0x6972702D, 12  # "-pri": what the file has behind the "file" that was overwritten
        expect_at B, ELF, 6
        cmp     dword ptr [B+PAGE], 0x22222222
        je      leaked

        sys     read, [file], "offset buffer", 8
        expect  eax, 8, 7
        expect_at buffer, ELF, 8

        fork_to child
        expect_exit 0, 9
        expect_at A, 0x11111111, 10
        say     "file-private: stores stay at home\n"
        pass

child:  expect_at A, 0x11111111, 101
        mov     dword ptr [A], 0x33333333
        expect_at B, ELF, 102
        pass

leaked: sys     exit, 11

        .bss
file:   .skip   4
buffer: .skip   8
