"""The command `unitask provider-sim`."""

from __future__ import annotations

import signal
from typing import Annotated

import typer


def provider_sim(
    port: Annotated[int, typer.Option(help="on 127.0.0.1")] = 8199,
    latency: Annotated[float, typer.Option(help="seconds that a job takes")] = 2.0,
) -> None:
    """Be a provider for trials: speaks as Replicate and as fal do, makes small pictures, and asks for no money.

    Point the workers at it, with any key: UNITASK_FAL_URL, UNITASK_REPLICATE_URL, UNITASK_FAL_KEY,
    UNITASK_REPLICATE_TOKEN, and UNITASK_ALLOW_PRIVATE_URLS=true for the results. It misbehaves when it is told to by
    POST /_sim/faults, for example {"call": "submit", "kind": "429", "times": 3, "seconds": 2}.
    """
    from tasks_lib.providers.simulator import Simulator  # brings the pixels along, which no other command needs

    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with Simulator(latency).serving(port) as simulator:
        typer.echo(f"a provider for trials listens at {simulator.url}; Ctrl-C ends it")
        signal.sigwait(ends)
