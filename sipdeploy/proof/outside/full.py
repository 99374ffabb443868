"""The steps of level `full`: calls with sound. They import `sipdeploy.sip.media` when they run."""

from sipdeploy.proof.outside.step import Step

STEPS: tuple[Step, ...] = ()
