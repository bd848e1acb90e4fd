"""One module a group of system calls; ``table`` finds the function for a number.

Functions take the kernel, the task and six words; they check arguments and hand on to who does it.
"""
