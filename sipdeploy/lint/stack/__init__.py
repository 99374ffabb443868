"""The linter of files that others wrote: the configuration of Kamailio and Asterisk, as in /etc.

Reads text only: it runs no program, follows no link out of the paths that it is given, and ends
within bounds of time and memory, because the files may come from a stranger.
"""
