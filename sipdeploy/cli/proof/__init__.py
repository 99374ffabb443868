"""The commands that ask whether a host works, and why not."""
