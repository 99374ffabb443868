"""Whether a host works: what it must prove before it is confirmed."""
