"""Kamailio's configuration: a tolerant parser with spans, and the rules over what it reads."""

from sipdeploy.lint.stack.kamailio import modules, paths, sockets
from sipdeploy.lint.stack.kamailio.config import Config, parse

RULE_MODULES = (modules, paths, sockets)  # their import registers their rules

__all__ = ["RULE_MODULES", "Config", "parse"]
