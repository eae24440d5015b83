"""Run every benchmark of this folder, or those that are named: `python -m tests.benchmarks [name ...]`."""

from __future__ import annotations

import importlib
import os
import pkgutil
import platform
import sys

import tests.benchmarks
from tests.benchmarks import machine


def main(names: list[str]) -> None:
    """Print the machine, then what each benchmark found."""
    known = [
        module.name
        for module in pkgutil.iter_modules(tests.benchmarks.__path__)
        if hasattr(importlib.import_module(f"tests.benchmarks.{module.name}"), "run")
    ]
    if unknown := set(names) - set(known):
        sys.exit(f"there is no benchmark {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    print(f"machine: {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}")
    print(f"load before: {os.getloadavg()[0]:.1f}; {machine.postgres_settings()}")
    for name in names or known:
        print(f"\n== {name}", flush=True)
        importlib.import_module(f"tests.benchmarks.{name}").run()


if __name__ == "__main__":
    main(sys.argv[1:])
