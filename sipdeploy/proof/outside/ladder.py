"""The ladder: every step of the proof from outside, in order."""

from sipdeploy.proof.outside import attack, full, network, page, signalling, user
from sipdeploy.proof.outside.step import Step

LADDER: tuple[Step, ...] = (
    *network.STEPS,
    *page.STEPS,
    *signalling.STEPS,
    *full.STEPS,
    *user.STEPS,  # the last one breaks the connection of the phone
    *attack.STEPS,
)
