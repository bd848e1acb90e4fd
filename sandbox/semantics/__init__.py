"""Instruction semantics: vectors, who executes them, and where they disagree."""
