"""What a job costs, from its tokens and its model's price."""

from __future__ import annotations

from decimal import Decimal

from app.domain.jobs import Cost, Usage

MILLION = Decimal(1_000_000)


def cost_of(usage: Usage, *, price_per_million: Decimal, batch_discount: Decimal, currency: str) -> Cost:
    """List price, the discount of a batch, and what is charged, in units of ``currency``."""
    listed = Decimal(usage.input_tokens + usage.output_tokens) * price_per_million / MILLION
    discount = listed * batch_discount
    return Cost(currency=currency, list=float(listed), discount=float(discount), charged=float(listed - discount))


def no_cost(currency: str = "USD") -> Cost:
    """The cost of nothing."""
    return Cost(currency=currency, list=0.0, discount=0.0, charged=0.0)
