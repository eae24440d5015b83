"""`python -m deployments.code ENTRYPOINT...`: what a registration needs of flows and of Prefect, as JSON.

In a process of its own: it imports Prefect and the flows of the folder that it is called in.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from prefect import Flow
from prefect.flows import load_flow_from_entrypoint
from prefect.workers.process import ProcessWorker


def main(entrypoints: list[str]) -> None:
    """Print each flow's name and the schema of its parameters, and the template of a pool that nobody has changed."""
    flows = {}
    for entrypoint in entrypoints:
        flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint)
        flows[entrypoint] = {"name": flow.name, "schema": flow.parameters.model_dump(exclude_unset=True)}
    json.dump({"flows": flows, "template": ProcessWorker.get_default_base_job_template()}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
