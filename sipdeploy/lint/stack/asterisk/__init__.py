"""The configuration of Asterisk: its parser, what its options are, and the rules over it."""

from sipdeploy.lint.stack.asterisk import access, calls, media, options, others, targets
from sipdeploy.lint.stack.asterisk.config import Config, Files, Section, Setting, parse

# their import registers their rules
RULE_MODULES = (options, access, media, targets, calls, others)

__all__ = ["RULE_MODULES", "Config", "Files", "Section", "Setting", "parse"]
