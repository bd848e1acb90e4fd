"""What hardware may do and this machine did not: a shadow of each CPU's TLB, and who forgot to flush it."""
