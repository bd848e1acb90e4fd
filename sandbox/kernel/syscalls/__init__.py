"""System calls by Linux's i386 numbers, one module a group."""
