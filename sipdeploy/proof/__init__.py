"""The verification of a host before an apply is confirmed."""
