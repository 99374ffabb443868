"""What a running host tells: the lines of its journal, and its state.

Lines become calls, registrations and refusals; `status/` judges the state. All but the reading of
the state is pure. Other people choose parts of these lines, so nothing here fails because of one.
"""
