# Thread-local storage by segment: gs:[0] is another word in every process, at the same offset.
#
# set_thread_area puts a descriptor into one of three slots of the GDT that belong to the running task, and says which.
# The kernel has to write a task's three slots into the GDT whenever it switches to it.  Parent and child give different
# bases to the same slots, then hand a byte to and fro; after each exchange they load gs and fs anew, from the GDT, and look.
# A register that holds a slot's selector follows when the slot is changed.
#
# (The slot's number is 12 on a 64-bit kernel and 6 on a 32-bit one.)

        .include "linux.inc"

        .set    TURNS, 10
        .set    DATA_32BIT_PAGES_USEABLE, 0x51

        .globl  _start
_start:
        sys     pipe, "offset to_child"
        sys     pipe, "offset to_parent"
        sys     set_thread_area, "offset descriptor"
        expect  eax, 0, 1
        mov     ebp, [descriptor]           # the slot that the kernel chose
        lea     ebp, [8*ebp+3]              # its selector: index, GDT, ring 3
        mov     gs, bp
        mov     eax, gs:[0]
        expect  eax, 0x11111111, 2
        sys     set_thread_area, "offset second"
        expect  eax, 0, 7
        mov     edi, [second]
        lea     edi, [8*edi+3]
        mov     fs, di
        fork_to child

        mov     esi, TURNS
1:      sys     write, [to_child+4], "offset dot", 1
        sys     read, [to_parent], "offset got", 1
        expect  eax, 1, 3
        mov     gs, bp
        mov     eax, gs:[0]
        expect  eax, 0x11111111, 4
        mov     eax, gs:[4]
        expect  eax, 0x12121212, 5
        mov     fs, di
        mov     eax, fs:[0]
        expect  eax, 0x13131313, 8
        dec     esi
        jnz     1b
        expect_exit 0, 6
        say     "tls: one selector, two bases\n"
        pass

child:  mov     eax, gs:[0]                 # inherited
        expect  eax, 0x11111111, 100
        mov     dword ptr [descriptor+4], offset childs
        sys     set_thread_area, "offset descriptor"
        expect  eax, 0, 101
        mov     eax, gs:[0]                 # the same selector, loaded again by the kernel
        expect  eax, 0x21212121, 105
        mov     eax, fs:[0]
        expect  eax, 0x13131313, 106
        mov     dword ptr [second+4], offset childs+8
        sys     set_thread_area, "offset second"
        expect  eax, 0, 107
        mov     esi, TURNS
1:      sys     read, [to_child], "offset got", 1
        expect  eax, 1, 102
        mov     gs, bp
        mov     eax, gs:[0]
        expect  eax, 0x21212121, 103
        mov     eax, gs:[4]
        expect  eax, 0x22222222, 104
        mov     fs, di
        mov     eax, fs:[0]
        expect  eax, 0x23232323, 108
        sys     write, [to_parent+4], "offset dot", 1
        dec     esi
        jnz     1b
        pass

        .section .rodata
dot:    .ascii  "."

        .data
descriptor:                                 # struct user_desc
        .long   -1                          # any free slot
        .long   parents                     # base
        .long   0xFFFFF                     # limit, in pages
        .long   DATA_32BIT_PAGES_USEABLE
second: .long   -1, parents+8, 0xFFFFF, DATA_32BIT_PAGES_USEABLE
parents:
        .long   0x11111111, 0x12121212, 0x13131313
childs: .long   0x21212121, 0x22222222, 0x23232323

        .bss
to_child:
        .skip   8
to_parent:
        .skip   8
got:    .skip   1
