"""How long an apply takes, beside what somebody would use instead; `make bench`."""
