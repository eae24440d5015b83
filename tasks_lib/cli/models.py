"""The command about the models of our own engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tasks_lib.cli.output import Output, OutputOption, console, print_json, table_of
from tasks_lib.engines import weights
from tasks_lib.settings import get_settings

app = typer.Typer()


@app.command("models")
def list_models(
    digests: Annotated[bool, typer.Option("--digests", help="read all weights and show their digests")] = False,
    output: OutputOption = Output.table,
) -> None:
    """List the models of UNITASK_MODELS: what they serve, and where their weights are."""
    rows: list[dict[str, Any]] = []
    for alias, model in get_settings().models.items():
        place = Path(model.path).expanduser()
        there = place.exists()
        rows.append(
            {
                "model": alias,
                "pipeline": model.pipeline,
                "serves": sorted(model.kinds),
                "path": model.path,
                "bytes": weights.size_on_disk(place) if there else None,
                "sha256": weights.digest(place) if there and digests else model.sha256,
            }
        )
    if output is Output.json:
        return print_json(rows)
    table = table_of("model", "pipeline", "serves", "weights", "where")
    for row in rows:
        size = "not there" if row["bytes"] is None else f"{row['bytes'] / 1e9:.1f} GB"
        where = f"{row['path']}\n{row['sha256']}" if row["sha256"] else str(row["path"])
        table.add_row(row["model"], row["pipeline"], ", ".join(row["serves"]), size, where)
    return console.print(table)
