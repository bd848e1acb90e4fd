# What system calls say when they refuse: one call a line, with the error that Linux gives.
#
# The table is run from top to bottom; each row names the call, its first six arguments and the result.  Descriptor 3 is
# this program's own file, open for reading; 4 and 5 are the ends of a pipe.  The program ends with the number of the
# first row that says something else.

        .include "linux.inc"

        .set    ENOENT, 2
        .set    EBADF, 9
        .set    EACCES, 13
        .set    EEXIST, 17
        .set    ENOTDIR, 20
        .set    EINVAL, 22
        .set    ESPIPE, 29
        .set    ENAMETOOLONG, 36
        .set    ENOSYS, 38
        .set    KERNEL, 0xC0100000
        .set    KERNEL_EDGE, 0xC0000000
        .set    MAP_SHARED, 1
        .set    O_WRONLY, 1
        .set    ANON, MAP_PRIVATE|MAP_ANONYMOUS

        .macro  row     result, number, a=0, b=0, c=0, d=0, e=0, f=0
        .long   \number, \a, \b, \c, \d, \e, \f, \result
        .endm

        .globl  _start
_start:
        mov     ebp, [esp+4]                # argv[0]
        sys     open, ebp, O_RDONLY
        expect  eax, 3, 200
        sys     pipe, "offset ends"
        expect_at ends+4, 5, 201

        mov     ebp, offset rows
1:      push    ebp
        mov     eax, [ebp]
        mov     ebx, [ebp+4]
        mov     ecx, [ebp+8]
        mov     edx, [ebp+12]
        mov     esi, [ebp+16]
        mov     edi, [ebp+20]
        mov     ebp, [ebp+24]
        int     0x80
        pop     ebp
        inc     dword ptr [number]
        cmp     eax, [ebp+28]
        jne     another
        add     ebp, 32
        cmp     ebp, offset rows_end
        jne     1b
        say     "errors: every refusal as expected\n"
        pass

another:
        sys     exit, [number]

        .section .rodata
nothing:
        .asciz  "/no/such/file"
through_a_file:
        .asciz  "/dev/null/file"
empty:  .asciz  ""
long_name:
        .fill   300, 1, 'a'
        .byte   0
longest_name:                               # 255 bytes
        .fill   255, 1, 'a'
        .byte   0
too_long_name:
        .fill   256, 1, 'a'
        .byte   0

        .balign 4
rows:   row     -ENOSYS,  999
        row     -EBADF,   SYS_read, 99, got, 1
        row     -EBADF,   SYS_write, 3, got, 1          # open for reading
        row     -EBADF,   SYS_read, 5, got, 1           # the end for writing
        row     -EBADF,   SYS_close, 99
        row     -EBADF,   SYS_dup2, 99, 10
        row     -EBADF,   SYS_dup2, 3, -1
        row     3,        SYS_dup2, 3, 3
        row     0,        SYS_read, 3, got, 0
        row     -EFAULT,  SYS_read, 3, KERNEL, 16       # row 10
        row     -EFAULT,  SYS_write, 5, KERNEL, 16
        row     -EFAULT,  SYS_write, 5, 0, 16
        row     -EFAULT,  SYS_open, 0, O_RDONLY
        row     -EFAULT,  SYS_open, KERNEL, O_RDONLY
        row     -ENOENT,  SYS_open, nothing, O_RDONLY
        row     -ENOTDIR, SYS_open, through_a_file, O_RDONLY
        row     -ENOENT,  SYS_open, empty, O_RDONLY
        row     -ENAMETOOLONG, SYS_open, long_name, O_RDONLY
        row     -ESPIPE,  SYS_lseek, 4, 0, 1
        row     -EINVAL,  SYS_lseek, 3, -1, 0           # row 20: before the beginning
        row     -EINVAL,  SYS_lseek, 3, 0, 9
        row     0,        SYS_lseek, 3, 0, 0
        row     -EFAULT,  SYS_pipe, 0
        row     -EFAULT,  SYS_uname, 0
        row     -ECHILD,  SYS_waitpid, -1, 0, 0
        row     -ECHILD,  SYS_waitpid, 1, 0, WNOHANG
        row     -EINVAL,  SYS_wait4, -1, 0, 0x10000000, 0
        row     -EINVAL,  SYS_mmap2, 0, 0, PROT_READ, ANON, -1, 0
        row     -EINVAL,  SYS_mmap2, 0, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0
        row     -EINVAL,  SYS_mmap2, 0x20000001, PAGE, PROT_READ, ANON|MAP_FIXED, -1, 0         # row 30
        row     -EBADF,   SYS_mmap2, 0, PAGE, PROT_READ, MAP_PRIVATE, 99, 0
        row     -ENOMEM,  SYS_mmap2, 0, 0xFFFFF000, PROT_READ, ANON, -1, 0
        row     -EACCES,  SYS_mmap2, 0, PAGE, PROT_READ|PROT_WRITE, MAP_SHARED, 3, 0
        row     -EACCES,  SYS_mmap2, 0, PAGE, PROT_READ, MAP_PRIVATE, 5, 0  # not open for reading
        row     0x20000000, SYS_mmap2, 0x20000000, PAGE, PROT_READ, ANON|MAP_FIXED, -1, 0
        row     -EEXIST,  SYS_mmap2, 0x20000000, PAGE, PROT_READ, ANON|0x100000, -1, 0          # MAP_FIXED_NOREPLACE
        row     -EINVAL,  SYS_munmap, 0x20000001, PAGE
        row     -EINVAL,  SYS_munmap, 0x20000000, 0
        row     -EINVAL,  SYS_mprotect, 0x20000001, PAGE, PROT_READ
        row     -EINVAL,  SYS_mprotect, 0x20000000, PAGE, 0x100     # row 40
        row     -ENOMEM,  SYS_mprotect, 0x20000000, 2*PAGE, PROT_READ|PROT_WRITE    # the second is not there ...
        row     1,        SYS_read, 3, 0x20000000, 1                # ... and the first has changed all the same
        row     0,        SYS_mprotect, 0x20000000, 0, PROT_READ
        row     0,        SYS_munmap, 0x20000000, PAGE
        row     0,        SYS_munmap, 0x20000000, PAGE
        row     -ENOMEM,  SYS_mprotect, 0x20000000, PAGE, PROT_READ
        row     -EINVAL,  SYS_nanosleep, too_much, 0
        row     -EFAULT,  SYS_nanosleep, 0, 0
        row     -EINVAL,  SYS_set_thread_area, bad_descriptor
        row     -EFAULT,  SYS_set_thread_area, 0                    # row 50
        row     -EFAULT,  SYS_read, 3, KERNEL_EDGE-8, 16            # begins below the kernel and ends in it
        row     -ENOENT,  SYS_open, longest_name, O_RDONLY
        row     -ENAMETOOLONG, SYS_open, too_long_name, O_RDONLY
        row     0x20000000, SYS_mmap2, 0x20000000, PAGE, PROT_READ, MAP_SHARED|MAP_FIXED, 3, 0
        row     -EACCES,  SYS_mprotect, 0x20000000, PAGE, PROT_READ|PROT_WRITE      # the file is open for reading
rows_end:

too_much:                                   # a timespec with a second's worth of nanoseconds
        .long   0, 1000000000

        .data
bad_descriptor:                             # slot 1 is not for programs
        .long   1, 0, 0xFFFFF, 0x51
ends:   .skip   8
number: .long   0
got:    .skip   4
