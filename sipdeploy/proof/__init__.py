"""Whether a host works: asked on the host (`inside`), and from here as phones do (`outside`)."""
