# A buffer that runs off the map, and a file: what could be copied counts, to the byte.
#
#   read  16 to edge-8      8, and the file's position moves by 8
#   read  16 to edge        EFAULT, and it stays
#   write 16 at edge-8      8, and the file is 8 bytes long
#   write 16 at edge        EFAULT, and it stays so
#
# The residue comes from the copy routine itself: the exception table's way out leaves the count of the bytes that are
# missing in a register, exact to the byte although the routine copies in larger pieces.
#
# Faults at 0x20001000 (edge): kernel write not-present, twice, then kernel read not-present, twice -> fixup.

        .include "linux.inc"

        .set    HERE, 0x20000000
        .set    EDGE, HERE + PAGE
        .set    SEEK_CUR, 1
        .set    SEEK_END, 2

        .globl  _start
_start:
        map_pages 1, HERE, flags=MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED
        expect  eax, HERE, 1

        mov     ebp, [esp+4]                # argv[0]: this program's own file
        sys     open, ebp, O_RDONLY
        mov     edi, eax
        sys     read, edi, EDGE-8, 16
        expect  eax, 8, 2
        expect_at EDGE-8, 0x464C457F, 3     # an ELF file begins so
        sys     lseek, edi, 0, SEEK_CUR
        expect  eax, 8, 4
        sys     read, edi, EDGE, 16
        expect  eax, -EFAULT, 5
        sys     lseek, edi, 0, SEEK_CUR
        expect  eax, 8, 6
        sys     read, edi, EDGE-1, 1        # and the last good byte is good
        expect  eax, 1, 7

        sys     open, "offset scratch", O_RDWR|O_CREAT|O_TRUNC, 0600
        mov     edi, eax
        sys     unlink, "offset scratch"
        expect  eax, 0, 8
        sys     write, edi, EDGE-8, 16
        expect  eax, 8, 9
        sys     write, edi, EDGE, 16
        expect  eax, -EFAULT, 11
        sys     lseek, edi, 0, SEEK_CUR
        expect  eax, 8, 12
        sys     lseek, edi, 0, SEEK_END
        expect  eax, 8, 10
        say     "efault-file: 8 of 16, three times counted\n"
        pass

        .section .rodata
scratch:
        .asciz  "/tmp/sandbox-efault-file"
