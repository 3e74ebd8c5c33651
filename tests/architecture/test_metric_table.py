"""docs/metrics.md lists the metrics that the code makes, as they are."""

from __future__ import annotations

from documentation import ROOT, codes_in, table_rows
from metric_names import made_metrics

PAGE = ROOT / "docs" / "metrics.md"
# Ids and whatever else a client can make more of.
UNBOUNDED = {"tenant", "tenant_id", "job", "job_id", "key", "path", "custom_id", "url", "request_id"}


def test_the_table_holds_every_metric_with_its_type_and_labels() -> None:
    listed = {
        codes_in(name)[0]: (kind, frozenset(filter(None, labels.split(", "))))
        for name, kind, labels, *_ in table_rows(PAGE, "metric")
    }
    assert listed == {name: (metric.type, metric.labels) for name, metric in made_metrics().items()}


def test_all_are_in_one_namespace_and_no_label_grows_with_clients() -> None:
    for name, metric in made_metrics().items():
        assert name.startswith("nightshift_")
        assert not metric.labels & UNBOUNDED, name
