"""Keeps what only a host has: backups, their restore onto another host, and the way back."""
