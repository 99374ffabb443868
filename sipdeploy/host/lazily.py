"""Puts off the import of a library that is rarely needed.

Paramiko imports invoke, and with it asyncio and a library of mocks, for `Match exec` in
~/.ssh/config alone: a tenth of what a no-op apply takes to start.
"""

import importlib
import sys
import types


class _Later(types.ModuleType):
    """Stands for a module until something of it is used.

    Not importlib's LazyLoader: in 3.11 `import` itself looks at an attribute, and so reads it.
    """

    def __getattr__(self, attribute: str) -> object:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)


def load(name: str) -> None:
    """Let `import name` succeed at once; the module is read when something of it is used."""
    sys.modules.setdefault(name, _Later(name))
