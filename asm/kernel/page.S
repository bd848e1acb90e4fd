# Whole pages are cleared and copied here.  The task's SSE registers are saved with it, so the kernel may use them.

        .intel_syntax noprefix
        .text

# edi: linear address of the page
        .globl  clear_page
clear_page:
        pxor    xmm0, xmm0
        mov     ecx, 16
1:      .irp    at, 0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240
        movaps  [edi+\at], xmm0
        .endr
        add     edi, 256
        dec     ecx
        jnz     1b
        ret

# esi: source page, edi: destination page (linear).  The source may be a user mapping that faults.
        .globl  copy_page
copy_page:
        mov     ecx, 32
1:      .irp    at, 0, 16, 32, 48, 64, 80, 96, 112
        movaps  xmm0, [esi+\at]
        movaps  [edi+\at], xmm0
        .endr
        add     esi, 128
        add     edi, 128
        dec     ecx
        jnz     1b
        ret

        .section .note.GNU-stack,"",@progbits
