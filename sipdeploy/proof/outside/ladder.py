"""The ladder: every step of the proof from outside, in order."""

from sipdeploy.proof.outside import attack, full, network, signalling
from sipdeploy.proof.outside.step import Step

LADDER: tuple[Step, ...] = (
    *network.STEPS,
    *signalling.STEPS,
    *full.STEPS,
    *attack.STEPS,
)
