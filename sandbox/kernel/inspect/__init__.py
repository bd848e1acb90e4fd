"""For people: names of addresses, oopses, reports of dying programs, the walk of an address.

It may look at everything below without touching it.
"""
