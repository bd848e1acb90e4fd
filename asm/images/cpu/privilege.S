# Ring 3 may not: instructions that belong to the kernel, and the doors that lead to it.
#
# Each line of the table is a thing that only ring 0 does, and each ends as #GP, which Linux makes SIGSEGV.  One thing
# does not fault: POPF in ring 3 leaves the interrupt flag as it is, in silence.  Nor does sigreturn let a program have the
# I/O privilege that it has put into its frame.

        .include "linux.inc"

        .set    SYS_kill, 37
        .set    SYS_signal, 48
        .set    SIGUSR1, 10
        .set    OF_EFLAGS, 64               # in a sigcontext
        .set    KERNEL_CS, 0x10
        .set    KERNEL_DS, 0x18

        .globl  _start
_start:
        pushf
        and     dword ptr [esp], 0xFFFFFDFF # IF off
        popf
        pushf
        pop     eax
        test    eax, 0x200
        jz      opened

        mov     esi, offset attempts
1:      fork_to child
        wait_child
        and     eax, 0xFFFFFF7F             # bit 7 tells of a core dump
        expect  eax, SIGSEGV, 1
        add     esi, 4
        cmp     esi, offset attempts_end
        jne     1b
        say     "privilege: twenty refused, and POPF kept its peace\n"
        pass

opened: sys     exit, 2

child:  call    [esi]
        sys     exit, 100

disable_interrupts:     cli
                        ret
enable_interrupts:      sti
                        ret
read_port:              in      al, 0x60
                        ret
write_port:             mov     dx, 0x3F8
                        out     dx, al
                        ret
read_cr0:               mov     eax, cr0
                        ret
load_cr3:               xor     eax, eax
                        mov     cr3, eax
                        ret
read_cr4:               mov     eax, cr4
                        ret
read_dr7:               mov     eax, dr7
                        ret
load_gdt:               lgdt    [descriptor]
                        ret
load_idt:               lidt    [descriptor]
                        ret
load_task_register:     mov     eax, 0x80
                        ltr     ax
                        ret
drop_translation:       invlpg  [descriptor]
                        ret
write_back_cache:       wbinvd
                        ret
clear_task_switched:    clts
                        ret
read_msr:               mov     ecx, 0x1B
                        rdmsr
                        ret
kernel_data_segment:    mov     eax, KERNEL_DS
                        mov     ds, ax
                        ret
jump_to_kernel:         ljmp    KERNEL_CS:0xC0100000
return_to_kernel:       pushf
                        push    KERNEL_CS
                        push    offset opened
                        iretd

kernel_gate:            int     0xF0
                        ret
iopl_from_a_frame:      sys     signal, SIGUSR1, "offset give_iopl"
                        sys     getpid
                        sys     kill, eax, SIGUSR1
                        in      al, 0x60
                        ret
give_iopl:              or      dword ptr [esp+8+OF_EFLAGS], 0x3000
                        ret

        .section .rodata
attempts:
        .long   disable_interrupts, enable_interrupts, read_port, write_port
        .long   read_cr0, load_cr3, read_cr4, read_dr7
        .long   load_gdt, load_idt, load_task_register, drop_translation
        .long   write_back_cache, clear_task_switched, read_msr
        .long   kernel_data_segment, jump_to_kernel, return_to_kernel
        .long   kernel_gate, iopl_from_a_frame
attempts_end:
descriptor:
        .word   0xFF
        .long   0
