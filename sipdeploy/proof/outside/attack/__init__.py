"""The steps of level `attack`: what a stranger must not be able to do, against one's own hosts.

Each step makes an attack, and is ok if the host refuses it or it has no effect. Both victims are
the probe accounts of the proof; no step sends anything to a user's phone that rings.
"""

from sipdeploy.proof.outside.attack import calls, headers, identity, limits, relaying

STEPS = (*identity.STEPS, *calls.STEPS, *headers.STEPS, *relaying.STEPS, *limits.STEPS)
