"""Commands for the second day: what a running host needs."""
