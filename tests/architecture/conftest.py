"""What the checks of the repository share."""

from __future__ import annotations

import pytest


@pytest.fixture
def required() -> dict[str, str]:
    """The variables without a default, each with a value."""
    return {
        "NIGHTSHIFT_DATABASE_URL": "postgresql+psycopg2://u:p@h/d",
        "NIGHTSHIFT_BROKER_URL": "amqp://u:p@h//",
        "NIGHTSHIFT_REDIS_URL": "redis://h",
        "NIGHTSHIFT_S3_ENDPOINT": "http://h",
        "NIGHTSHIFT_S3_ACCESS_KEY": "a",
        "NIGHTSHIFT_S3_SECRET_KEY": "s",
        "NIGHTSHIFT_KEY_PEPPER": "k",
    }
