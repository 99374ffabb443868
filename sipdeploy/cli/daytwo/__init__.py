"""Commands for a host that runs: its calls, its log, the SIP of a user."""
