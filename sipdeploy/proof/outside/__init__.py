"""The proof from outside: this machine uses a host as a phone does, step by step.

`step` has the data types, `run` carries the steps out, `ladder` is their list, `subject` is what
they share. The steps of each kind are in a module of their own.
"""
