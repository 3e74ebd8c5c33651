"""What README and docs say about the code is so. That their commands run: ``tests/e2e/test_documentation.py``."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from documentation import PAGES, ROOT, RUN, SHOWN, blocks_of, codes_in, inline_code_of, links_of, name_of, table_rows

from app import errors
from app.api.error_tables import KINDS
from app.cli.root import main as cli
from app.domain.items import ItemErrorCode
from app.domain.result_lines import STATUS_OF_CODE
from app.domain.retries import is_retryable
from app.domain.states import JobState
from config import document
from config.settings import PREFIX, Settings

README = ROOT / "README.md"
every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@every_page
def test_every_block_is_either_run_or_only_shown(page: Path) -> None:
    assert [str(block) for block in blocks_of(page) if block.language not in (*RUN, *SHOWN)] == []


@every_page
def test_every_link_leads_to_a_file(page: Path) -> None:
    assert [link for link in links_of(page) if not (page.parent / link).exists()] == []


@every_page
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {code.split()[1] for code in inline_code_of(page) if re.match(r"make [a-z]", code)}
    assert named - targets == set()


@every_page
def test_every_command_of_nightshift_that_is_named_exists(page: Path) -> None:
    named = {code.split()[1] for code in inline_code_of(page) if re.match(r"nightshift [a-z]", code)}
    assert named - cli.commands.keys() == set()


def test_the_readme_lists_every_state_of_a_job() -> None:
    assert [codes_in(row[0])[0] for row in table_rows(README, "state")] == [state.value for state in JobState]


def test_the_readme_lists_every_error_with_its_status() -> None:
    wanted = {
        error.code: (str(kind.status.value), error.retryable) for error, kind in KINDS.items() if kind.status != 500
    }
    found = {code: (row[1], row[2] != "no") for row in table_rows(README, "code") for code in codes_in(row[0])}
    assert found == wanted


def test_the_readme_lists_every_item_error_with_its_status() -> None:
    ran = {str(code): (str(status), is_retryable(code)) for code, status in STATUS_OF_CODE.items()}
    rows = list(table_rows(README, "item code"))
    assert {code: (row[1], row[2] == "yes") for row in rows[:-1] for code in codes_in(row[0])} == ran
    assert set(codes_in(rows[-1][0])) == set(ItemErrorCode) - ran.keys()


def test_the_variables_in_the_readme_exist_and_have_the_defaults_it_says() -> None:
    specs = {PREFIX + spec.name.upper(): spec for spec in dataclasses.fields(Settings)}
    for names, default, *_ in table_rows(README, "variable"):
        for name in codes_in(names):
            assert document._default(specs[name]) == default, name


def test_the_readme_names_every_variable_that_has_no_default() -> None:
    specs = {PREFIX + spec.name.upper(): spec for spec in dataclasses.fields(Settings)}
    required = {name for name, spec in specs.items() if document._default(spec) == "required"}
    named = {name for row in table_rows(README, "variable") for name in codes_in(row[0])}
    assert required <= named


def test_every_class_of_error_is_drawn_at_the_top_of_its_module() -> None:
    drawn = set(re.findall(r"^[│├└─ ]*([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE))
    assert {error.__name__ for error in KINDS} <= drawn
