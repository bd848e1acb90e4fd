"""Guest kernel code: the loader, the symbols that it may call and the gate that they come through, its devices.

It may use everything in the record; guest memory is written by the loader, and by the CPU that runs the module.
"""
