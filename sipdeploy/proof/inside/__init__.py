"""The proof that a host makes on its own loopback before an apply is confirmed."""
