"""What programs see of Linux i386: numbers, flags, structures, as the manual pages and headers have them.

It knows nothing of this kernel, and touches nothing.
"""
