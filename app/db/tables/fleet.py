"""Workers, how fast they are, and what is expected of them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.db.tables.columns import count, json, metadata, moment

workers = Table(
    "workers",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("pool", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("incarnation", Text, nullable=False),
    json("warm_models", "[]"),
    # Models that this process tried to load lately and could not.
    json("unloadable_models", "[]"),
    # When this incarnation began.
    moment("started_at", now=True),
    moment("seen_at", now=True),
    # Since when it takes no chunk although it is heard; null once it does.
    moment("stuck_since"),
)

# Queues whose worker takes no more chunks. Apart from the workers, whose rows come and go with their processes.
drains = Table(
    "drains",
    metadata,
    Column("queue", Text, primary_key=True),
    moment("created_at", now=True),
)

# What came of the chunks that ended before ``work_totals_until``: a sum for each kind of question and each answer.
work_totals = Table(
    "work_totals",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("label", Text, primary_key=True),
    count("n"),
    Column("sum_s", Float, nullable=False, server_default=text("0")),
    # Of a histogram: how many were at most each bound.
    Column("at_most", ARRAY(BigInteger), nullable=False, server_default="{}"),
)

# One row; null until something was summed up.
work_totals_until = Table(
    "work_totals_until",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    moment("until"),
    CheckConstraint("id = 1", name="one_row"),
)

model_rates = Table(
    "model_rates",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("pool", Text, primary_key=True),
    # Estimated tokens per device second, smoothed over finished chunks.
    Column("tokens_per_s", Float, nullable=False),
    moment("updated_at", now=True),
)

# What the leading dispatcher last worked out about a pool: who waits for what, in which order, and until when.
pool_outlooks = Table(
    "pool_outlooks",
    metadata,
    Column("pool", Text, primary_key=True),
    moment("taken_at", now=True),
    json("outlook", "{}"),
)
