"""How a running host is: its state in one exchange, a verdict on each value, and their formats."""
