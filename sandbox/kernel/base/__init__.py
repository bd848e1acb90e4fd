"""What every floor may use: configuration, policies, breakage switches, events, counters, the log, time, waiting.

It touches no guest memory and names no subsystem; those above are known to it by Protocols only.
"""
