"""Real Debian hosts on this machine, booted in seconds, for the tests and the demo.

with Lab() as lab:
    host = lab.boot("sip1")
    host.run("systemctl is-active ssh", check=True)

The lab needs root on Debian or Ubuntu. `why_not` names missing tools, `python -m lab install`
installs them.
"""

from lab.hosts import Host
from lab.lab import Lab
from lab.machine import LabError, why_not

__all__ = ["Host", "Lab", "LabError", "why_not"]
