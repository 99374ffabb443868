"""Keeps what only a host has: backups, and their restore onto another host."""
