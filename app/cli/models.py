"""``nightshift models``."""

from __future__ import annotations

import click

from app.cli.client import ApiClient, with_client
from app.cli.output import print_json, print_table, with_json


@click.command()
@with_json
@with_client
def models(client: ApiClient, *, as_json: bool) -> None:
    """List the models this installation serves."""
    page = client.get("/v1/models")
    if as_json:
        print_json(page)
        return
    rows = (
        (model["id"], model["engine"], " ".join(model["endpoints"]), model["max_input_tokens"])
        for model in page["data"]
    )
    print_table(["model", "engine", "endpoints", "tokens per input"], rows, empty="no models: see config/models.yaml")
