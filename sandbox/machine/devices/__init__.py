"""Devices: what answers at ports and in physical windows.

A device records, answers, may ask its ``Host`` for an interrupt, for DMA or for the CPU to stop, and never
sleeps.
"""

from sandbox.machine.devices.device import Host, PortDevice, WindowDevice

__all__ = ["Host", "PortDevice", "WindowDevice"]
