# A write fault's way out: what is left to do for a page between the handler's decision and the program's next
# instruction, in one routine (sandbox/kernel/mm/entries.py, replace_on_return).
#
#   ebx  clear_page or copy_page, with edi and esi as it takes them; clear_page too finds the user page's end in esi
#   eax  linear address of the entry, in the direct map        edx, ebp  its new value, low and high word
#
# The entry is stored behind the page's last byte, in a single store, and the old translation goes before anything
# else runs on this CPU.

        .intel_syntax noprefix
        .text

        .globl  break_cow_pae
break_cow_pae:
        call    ebx
        movd    xmm0, edx
        movd    xmm1, ebp
        punpckldq xmm0, xmm1
        movq    [eax], xmm0
        invlpg  [esi-4096]
        hlt

        .globl  break_cow
break_cow:
        call    ebx
        mov     [eax], edx
        invlpg  [esi-4096]
        hlt

# What a system call has to tell, at most 128 bytes in XMM0 to XMM7, as store_window and then copy_user in one run.
#
#   edi  kernel address of 128 bytes      esi  user address      ecx  bytes      eax  bytes that were not copied
        .globl  put_window
put_window:
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
        movups  [edi+\n*16], xmm\n
        .endr
        xchg    esi, edi
        jmp     copy_user

        .section .note.GNU-stack,"",@progbits
