"""gdb's remote protocol: packets, registers, and what they mean to a target."""
