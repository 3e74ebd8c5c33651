"""The group that all commands hang from."""

from __future__ import annotations

import click

from app.cli.groups import groups
from app.cli.installation import doctor, migrate, topology
from app.cli.jobs import cancel, jobs, pause, results, resume, show
from app.cli.keys import keys
from app.cli.models import models
from app.cli.retry import retry
from app.cli.schedules import schedules
from app.cli.stack import down, logs, ps, up
from app.cli.submit import submit
from app.cli.tenants import tenants
from app.cli.update import update
from app.cli.workers import workers


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Nightshift: batch inference on your own GPUs.

    Commands speak to NIGHTSHIFT_URL with NIGHTSHIFT_API_KEY, from the environment or from the nearest
    .nightshift/env, which the local stack writes.
    """


for _command in (
    submit,
    jobs,
    groups,
    show,
    update,
    results,
    cancel,
    pause,
    resume,
    retry,
    models,
    schedules,
    keys,
    tenants,
    workers,
    doctor,
    migrate,
    topology,
    up,
    down,
    ps,
    logs,
):
    main.add_command(_command)
