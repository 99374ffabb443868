"""The duration of an apply, compared with other tools; `make bench`."""
