"""Run every benchmark of this folder, or those that are named: `python -m tests.benchmarks [name ...]`."""

from __future__ import annotations

import os
import pkgutil
import platform
import subprocess
import sys
from pathlib import Path

import tests.benchmarks
from tests.benchmarks import machine

RUN = "import importlib, sys; importlib.import_module(sys.argv[1]).run()"


def main(names: list[str]) -> None:
    """Print the machine, then what each benchmark found."""
    (folder,) = map(Path, tests.benchmarks.__path__)
    known = [
        module.name
        for module in pkgutil.iter_modules([str(folder)])
        if "\ndef run(" in (folder / f"{module.name}.py").read_text()
    ]
    if unknown := set(names) - set(known):
        sys.exit(f"there is no benchmark {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    print(f"machine: {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}")
    print(f"load before: {os.getloadavg()[0]:.1f}; {machine.postgres_settings()}")
    for name in names or known:
        print(f"\n== {name}", flush=True)
        # In a process of its own: what the others import takes memory, and time at each round of garbage collection.
        subprocess.run([sys.executable, "-c", RUN, f"tests.benchmarks.{name}"], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
