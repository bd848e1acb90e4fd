# Makes the 600 system calls of a table that `make_table` of storm.py draws.

        .include "storm.inc"

        .globl  _start
_start: storm   600
