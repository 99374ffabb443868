"""Real Debian hosts on one machine, made in seconds, for the tests, for the demo and for people.

with Lab() as lab:
    host = lab.boot("sip1")
    host.run("systemctl is-active ssh", check=True)

Needs root on Debian or Ubuntu; `why_not` says what is missing, `python -m lab install` adds it.
"""

from lab.hosts import Host
from lab.lab import Lab
from lab.machine import LabError, why_not

__all__ = ["Host", "Lab", "LabError", "why_not"]
