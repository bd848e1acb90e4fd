"""Devices of the machine and the host's streams: terminal and line discipline, consoles, memory devices, job control.

It may use tasks and signals; bytes of the host enter guest memory as DMA only.
"""
