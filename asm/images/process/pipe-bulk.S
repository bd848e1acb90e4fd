# 256 KB through a pipe that holds 64 KB: the writer sleeps when it is full, the reader when it is empty.
#
# The child writes all of it with one system call, which returns when the last byte is in the pipe.  The parent takes
# pieces of 1,000 bytes and checks every word.  In between are page-sized pieces of kernel memory, that the two never
# see; and at the end, when the last writer is gone, a read of 0 bytes: by then the reader sleeps, for the writer takes its
# time to end.

        .include "linux.inc"

        .set    WORDS, 65536
        .set    PIECE, 1000

        .globl  _start
_start:
        cld
        sys     pipe, "offset ends"
        expect  eax, 0, 1
        fork_to writer
        sys     close, [ends+4]             # or the end of the data would never be seen

        xor     ebp, ebp                    # words seen
1:      sys     read, [ends], "offset piece", PIECE
        test    eax, eax
        jz      3f
        js      broken
        mov     edx, eax
        and     eax, 3                      # both sides only move whole words
        jnz     broken
        mov     esi, offset piece
2:      lodsd
        imul    ecx, ebp, 0x01000193
        cmp     eax, ecx
        jne     broken
        inc     ebp
        sub     edx, 4
        jnz     2b
        jmp     1b
3:      expect  ebp, WORDS, 2
        expect_exit 0, 3
        say     "pipe-bulk: 65536 words in order\n"
        pass

broken: sys     exit, 4

writer: mov     edi, offset source
        xor     esi, esi
1:      imul    eax, esi, 0x01000193
        stosd
        inc     esi
        cmp     esi, WORDS
        jne     1b
        sys     write, [ends+4], "offset source", WORDS*4
        expect  eax, WORDS*4, 100
        push    50000000                    # struct timespec: 50 ms
        push    0
        sys     nanosleep, esp, 0
        pass

        .bss
ends:   .skip   8
piece:  .skip   PIECE
        .balign PAGE
source: .skip   WORDS*4
