"""What a running host tells: the lines of its journal as calls, registrations and refusals.

All of it is pure. Other people choose parts of these lines, so nothing here fails because of one.
"""
