"""The steps of level `attack`: what a stranger must not be able to do, against one's own hosts."""

from sipdeploy.proof.outside.step import Step

STEPS: tuple[Step, ...] = ()
