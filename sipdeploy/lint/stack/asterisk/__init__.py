"""The configuration of Asterisk: its parser, what its options are, and the rules over it."""
