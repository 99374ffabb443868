"""Commands of the releases of a host: history, confirm, upgrade."""
