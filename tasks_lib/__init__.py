"""Unitask's library. What callers use is listed in `__init__.pyi`; the first use of a name loads its module."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
