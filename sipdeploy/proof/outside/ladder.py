"""The ladder: every step of the proof from outside, in order."""

from sipdeploy.proof.outside import attack, full
from sipdeploy.proof.outside.step import Step

LADDER: tuple[Step, ...] = (*full.STEPS, *attack.STEPS)
