"""How the page writes numbers, intervals and settings."""

import json
import math

from resnet_jax.report.claims import Interval


def number(value: float) -> str:
    """Four significant digits as people read them: '1,727,962', '6.44', '−0.8', '3.1e−08', '∞'."""
    if math.isnan(value):
        return 'not a number'
    if math.isinf(value):
        return '∞' if value > 0 else '−∞'
    if isinstance(value, int):
        text = f'{value:,}'
    elif value == 0 or 1e-3 <= abs(value) < 1e7:
        decimals = 0 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
        text = f'{value:,.{decimals}f}'
        text = text.rstrip('0').rstrip('.') if '.' in text else text
    else:
        text = f'{value:.3g}'
    return text.replace('-', '−')


def span(interval: Interval) -> str:
    """An interval in words: '7 to 14', 'at most 1', 'at least 80', 'above 0', 'any', '0'."""
    low, high = interval.low, interval.high
    if low == high:
        return number(low)
    if math.isinf(low) and math.isinf(high):
        return 'any'
    if math.isinf(low):
        return 'below 0' if high == math.nextafter(0, -1) else f'at most {number(high)}'
    if math.isinf(high):
        return 'above 0' if low == math.nextafter(0, 1) else f'at least {number(low)}'
    return f'{number(low)} to {number(high)}'


def plain(value: object) -> str:
    """A setting or summary value as text, exact for settings that come from JSON."""
    if isinstance(value, list):
        return ', '.join(plain(item) for item in value) or '—'
    if isinstance(value, str):
        return value or '—'
    return '—' if value is None else json.dumps(value)


def summary(value: object) -> str:
    """A value of a finding's short table."""
    if isinstance(value, list):
        return ', '.join(summary(item) for item in value) or '—'
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else plain(value)
