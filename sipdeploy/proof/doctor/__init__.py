"""Why a host does not work: the ladder of verify, walked from outside and inside.

`rung` has the data types, `inside` reads a host in one exchange, `walk` climbs until the first
rung that is broken. The rungs of each topic, with what they conclude, are in a module of
their own; `causes` has the causes that several rungs share. All conclusions are pure.
"""
