"""The proof from outside in an apply: before the swap, and after it."""
