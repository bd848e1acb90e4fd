# Read-modify-write on a shared page: one instruction that loads, computes and stores, and faults before it does any.
#
# In the child every page below is shared with the parent.  The load alone would succeed; the fault comes for the store,
# the page is copied, and the instruction runs again from its beginning, so that nothing may happen twice: not the
# addition, not the exchange, not the push.  The last one is a compare-and-exchange that fails its comparison: the CPU
# writes the old value back even so, and it costs a copy like any other.
#
# Faults in the child: user write protection -> cow-copy, once for each page in turn; fresh: user write not-present ->
# demand-zero, and none for the load before it.

        .include "linux.inc"

        .globl  _start
_start:
        mov     edi, offset pages
        mov     ecx, 5
1:      mov     dword ptr [edi], 40
        add     edi, PAGE
        loop    1b
        fork_to child
        expect_exit 0, 1
        mov     edi, offset pages
        mov     ecx, 5
2:      expect_at edi, 40, 2
        add     edi, PAGE
        loop    2b
        say     "cow-rmw: xadd, xchg, adc, pop and cmpxchg each copied once and happened once\n"
        pass

child:  mov     eax, 2                      # 40 + 2, and the old value comes back
        lock xadd [pages], eax
        expect  eax, 40, 101
        expect_at pages, 42, 102

        mov     eax, 5                      # xchg with memory is locked by itself
        xchg    eax, [pages+PAGE]
        expect  eax, 40, 103
        expect_at pages+PAGE, 5, 104

        stc                                 # the carry must live through the fault
        adc     dword ptr [pages+2*PAGE], 1
        expect_at pages+2*PAGE, 42, 105

        mov     esi, esp                    # pop moves esp only when its store is done
        push    17
        pop     dword ptr [pages+3*PAGE]
        expect_at pages+3*PAGE, 17, 106
        expect  esp, esi, 107

        mov     eax, 41                     # not equal: no exchange, the old value in eax
        mov     ecx, 99
        lock cmpxchg [pages+4*PAGE], ecx
        je      3f
        expect  eax, 40, 108
        expect_at pages+4*PAGE, 40, 109

        lock dec dword ptr [fresh]          # no page at all: asked for with the intent to write, at once
        expect_at fresh, -1, 111
        pass
3:      sys     exit, 110

        .bss
        .balign PAGE
pages:  .skip   5*PAGE
fresh:  .skip   PAGE
