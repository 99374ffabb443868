"""A phone in Python: SIP over a secure WebSocket (RFC 7118), dialogs, digest, audio (`media`)."""
