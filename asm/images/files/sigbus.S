# Beyond the end of a file there is an area, and nothing to put into it: SIGBUS, not SIGSEGV.
#
# Of this program's file one page more is mapped than it has.  In the last page of the file the rest behind its end
# reads as zero, and may be written.  The page after that is in the area, with all rights, but no page of the file
# belongs there.  A child that touches it dies of SIGBUS; the kernel's own load from there ends in EFAULT.
#
# Faults: in the page beyond: user read not-present -> sigbus; kernel read not-present -> fixup.

        .include "linux.inc"

        .set    HERE, 0x20000000
        .set    SIGBUS, 7
        .set    SEEK_END, 2

        .globl  _start
_start:
        map_pages 16                        # leave frames with something in them
        mov     esi, eax
        mov     edi, eax
        mov     ecx, 16*PAGE/4
        mov     eax, 0xDEADBEEF
        cld
        rep     stosd
        sys     munmap, esi, 16*PAGE

        mov     ebp, [esp+4]                # argv[0]
        sys     open, ebp, O_RDONLY
        mov     [file], eax
        sys     lseek, [file], 0, SEEK_END
        mov     [size], eax
        lea     ecx, [eax+2*PAGE-1]         # up to the end of the page after the last
        and     ecx, -PAGE
        sys     mmap2, HERE, ecx, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, [file], 0
        expect  eax, HERE, 1

        mov     edi, [size]                 # behind the end, in the last page
        add     edi, HERE
        mov     ecx, edi
        neg     ecx
        and     ecx, PAGE-1
        xor     eax, eax
        cld
        repe    scasb
        jne     dirty
        mov     byte ptr [edi-1], 1         # edi is at the first byte of the page beyond now

        fork_to child
        expect_killed SIGBUS, 2
        sys     pipe, "offset ends"
        sys     write, [ends+4], edi, 1
        expect  eax, -EFAULT, 3
        say     "sigbus: zeros behind the end of the file, SIGBUS behind its last page\n"
        pass

child:  mov     al, [edi]
        sys     exit, 100

dirty:  sys     exit, 4

        .bss
file:   .skip   4
size:   .skip   4
ends:   .skip   8
