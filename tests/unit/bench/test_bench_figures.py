from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bench.history import History, load_history
from tests.bench.plot import draw, write_plot
from tests.bench.report import BEGIN, END, markdown, write_between_marks
from tests.bench.rows import Row, at_least, at_most
from tests.bench.samples import Sample

RATIO = Row(
    key="short.over_bare",
    what="over bare",
    unit="x",
    sample=Sample([2.0, 1.5, 2.5]),
    target=at_least(1.6),
    statistic="smallest",
)
LATENCY = Row(
    key="submit.p99", what="submit, p99", unit="ms", sample=Sample([10.0, 40.0]), target=at_most(50), statistic="p99"
)


def test_a_target_is_judged_by_the_figure_and_not_by_the_median() -> None:
    assert RATIO.value == 1.5
    assert RATIO.is_met is False
    assert LATENCY.value == 40.0
    assert LATENCY.is_met is True


def test_figures_come_back_as_they_were_kept(tmp_path: Path) -> None:
    kept = History("this machine", {}).updated([RATIO, LATENCY], taken_at="2026-01-01T00:00:00+00:00", load=0.5)
    kept.save(tmp_path / "figures.json")

    assert load_history(tmp_path / "figures.json", machine="this machine") == kept
    assert kept.previous(RATIO) == 1.5


def test_figures_of_another_machine_are_not_compared(tmp_path: Path) -> None:
    History("that machine", {}).updated([RATIO], taken_at="", load=0.0).save(tmp_path / "figures.json")

    assert load_history(tmp_path / "figures.json", machine="this machine").previous(RATIO) is None


def test_measuring_one_part_leaves_the_figures_of_the_others() -> None:
    first = History("m", {}).updated([RATIO, LATENCY], taken_at="1", load=0.0)
    again = first.updated([LATENCY], taken_at="2", load=0.0)

    assert again.measured[RATIO.key].taken_at == "1"
    assert again.measured[LATENCY.key].taken_at == "2"


def test_the_table_stands_between_the_marks_and_the_rest_of_the_page_stays(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_between_marks(page, markdown(History("m", {}).updated([RATIO], taken_at="", load=0.0)))

    content = page.read_text(encoding="utf-8")
    assert content.startswith(f"before\n{BEGIN}\n| what |")
    assert "| over bare | 1.50x | 1.50x to 2.50x | >= 1.60x |" in content
    assert content.endswith(f"{END}\nafter\n")


def test_a_page_without_marks_is_not_written_to(tmp_path: Path) -> None:
    page = tmp_path / "plain.md"
    page.write_text("nothing", encoding="utf-8")

    with pytest.raises(ValueError, match="no place"):
        write_between_marks(page, "")
    assert page.read_text(encoding="utf-8") == "nothing"


def test_a_plot_shows_more_as_higher(tmp_path: Path) -> None:
    svg = draw([(1, 10), (1000, 50_000)], x="items", y="items per second")
    line = re.search(r"polyline points='([^']+)'", svg)

    assert line is not None
    (left, low), (right, high) = (map(float, point.split(",")) for point in line[1].split())
    assert left < right
    assert high < low  # SVG counts downwards
    assert svg.count("<text") == svg.count("</text>")
    assert write_plot(History("m", {}), tmp_path / "plot.svg") is False
