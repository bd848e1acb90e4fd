# The list behind the code of mends.bin and system.bin, which the loader reads (sandbox/engine/mends.py): where each entry
# is, its kind, its name.

        .macro  listed at, kind, name:vararg
        .text   2
        .long   \at - begin
        .byte   \kind
        .asciz  "\name"
        .text   0
        .endm
        .macro  helper name
        .p2align 4
h_\name:
        listed  h_\name, 0, helper_\name
        .endm
        .macro  engines name            # a function of the engine that the stubs call
        .p2align 3
e_\name: .quad  0
        listed  e_\name, 1, \name
        .endm
