"""Delays the import of a library until it is used.

Paramiko imports invoke (and with it asyncio and a mock library) only for `Match exec` in
~/.ssh/config. That import takes a tenth of the start of an apply without changes.
"""

import importlib
import sys
import types


class _Later(types.ModuleType):
    """Placeholder for a module until the first access to an attribute.

    Not importlib's LazyLoader: in 3.11 `import` itself reads an attribute, which loads the module.
    """

    def __getattr__(self, attribute: str) -> object:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)


def load(name: str) -> None:
    """Make `import name` succeed at once; the first access to an attribute loads the module."""
    sys.modules.setdefault(name, _Later(name))
