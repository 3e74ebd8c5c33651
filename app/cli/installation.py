"""Commands that act on the backing services themselves: migrate, topology, doctor."""

from __future__ import annotations

import dataclasses

import click

from app.cli.output import fails_with_a_sentence, out, print_json, print_table, with_json
from app.db.migrate import upgrade
from app.errors import NightshiftError
from app.services.apply_topology import TopologyReport, apply_topology
from app.services.check_installation import Check, ask_installation, check_installation
from config.settings import SettingsError, load_client_settings, load_operator_settings


@click.command()
@with_json
@fails_with_a_sentence(SettingsError, NightshiftError)
def migrate(*, as_json: bool) -> None:
    """Bring the database's tables up to this version."""
    revision = upgrade(load_operator_settings())
    if as_json:
        print_json({"revision": revision})
    else:
        out().print(f"the database is at revision {revision}")


@click.command()
@with_json
@fails_with_a_sentence(SettingsError, NightshiftError)
def topology(*, as_json: bool) -> None:
    """Declare exchanges, queues and the policy on the broker."""
    report = apply_topology(settings=load_operator_settings())
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        _print_topology(report)


def _print_topology(report: TopologyReport) -> None:
    if report.queues:
        out().print(f"queues: {', '.join(report.queues)}")
    if report.policy:
        out().print(f"policy {report.policy}: {', '.join(report.policy_keys)}")
    for note in report.notes:
        out().print(note)


@click.command()
@with_json
@fails_with_a_sentence(SettingsError)
def doctor(*, as_json: bool) -> None:
    """Check every backing service and what runs on it; say what to do. Exit code 1 where something fails.

    Where the servers' settings are not at hand, ask the API at NIGHTSHIFT_URL what it sees.
    """
    checks = _checks()
    failed = any(check.state == "failed" for check in checks)
    if as_json:
        print_json({"healthy": not failed, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        print_table(["check", "state", "found", "what to do"], map(_row, checks), empty="")
    if failed:
        raise click.exceptions.Exit(1)


def _checks() -> list[Check]:
    try:
        settings = load_operator_settings()
    except SettingsError as missing:
        try:
            address = load_client_settings().url
        except SettingsError:
            raise missing from None
        return ask_installation(url=address)
    return check_installation(settings=settings)


def _row(check: Check) -> tuple[str, str, str, str]:
    return check.name, check.state, check.found, check.advice or ""
