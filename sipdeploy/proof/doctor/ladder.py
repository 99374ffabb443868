"""The ladder of doctor: every rung, from the network to the sound, in order."""

from sipdeploy.proof.doctor import audio, call, connect, register, voicemail
from sipdeploy.proof.doctor.rung import LADDERS, Rung, Topic

RUNGS: tuple[Rung, ...] = (
    *connect.RUNGS,
    *register.RUNGS,
    *call.RUNGS,
    *audio.RUNGS,
    *voicemail.RUNGS,
)


def of_topic(topic: Topic | None) -> tuple[Rung, ...]:
    """The rungs that lead to a topic, or all of them."""
    return tuple(
        rung
        for rung in RUNGS
        if rung.topic in LADDERS[topic] and (not rung.is_own or topic in (rung.topic, None))
    )
