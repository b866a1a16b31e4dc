"""What the pages share: their templates, a run's settings, figures, and the strip that shows a claim."""

import base64
import json
import math
import re
from pathlib import Path

import jinja2

from resnet_jax.errors import UserError
from resnet_jax.report.claims import Claim
from resnet_jax.report.text import number, plain, span, summary
from resnet_jax.runtime.directory import SCHEMA

SYMBOLS = {'supported': '✓', 'refuted': '✗', 'undecided': '?'}  # beside the word: colour alone says nothing
_PHONE = 0.72  # a figure shrinks to this share of its size, so that its text stays legible, and scrolls below it


def template(kind: str) -> jinja2.Template:
    """Of a page of that kind: run, laboratory or sweep."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {'number': number, 'span': span, 'plain': plain, 'summary': summary, 'gauge': gauge}
    return environment.get_template(f'{kind}.html.j2')


def read_settings(run_dir: Path, name: str) -> dict | None:
    """The contents of config.json or environment.json; None where there is none.

    Raises:
      UserError: it is damaged, or of another version.
    """
    path = run_dir / name
    if not path.is_file():
        return None
    try:
        settings = json.loads(path.read_text(encoding='utf-8'))
        schema = settings.pop('schema')
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f'{path} cannot be read ({error!r}); start the run again, which writes it anew') from error
    if schema != SCHEMA:
        raise UserError(
            f'{path} has schema {schema!r}, this version reads {SCHEMA}; use the version that trained the run'
        )
    return settings


def image(directory: Path, name: str) -> dict[str, str | bool] | None:
    """A figure as data: URLs, with the width in pixels below which it scrolls; None where its file is missing."""
    path = directory / 'figures' / f'{name}.svg'
    if not path.is_file():
        return None
    svg = path.read_bytes()
    width = re.search(rb'<svg[^>]*?\swidth="([0-9.]+)pt"', svg)
    natural = float(width[1]) * 96 / 72 if width else 440.0
    numbers = path.with_suffix('.csv')
    return {
        'source': data_url('image/svg+xml', svg),
        'numbers': data_url('text/csv', numbers.read_bytes()) if numbers.is_file() else '',
        'width': f'{natural:.0f}',
        'least': f'{_PHONE * natural:.0f}',
        'wide': natural > 600,
    }


def data_url(kind: str, data: bytes) -> str:
    """That data inside a link or an image."""
    return f'data:{kind};base64,{base64.b64encode(data).decode()}'


def gauge(claim: Claim) -> dict[str, float | bool]:
    """Where the region of acceptance, the interval and the value lie, in percent of a strip that holds them all."""
    points = (claim.accept.low, claim.accept.high, claim.interval.low, claim.interval.high, claim.measured)
    finite = [point for point in points if math.isfinite(point)] or [0.0]
    margin = 0.12 * (max(finite) - min(finite)) or 1.0
    low, high = min(finite) - margin, max(finite) + margin

    def place(point: float) -> float:
        return round(100 * (min(max(point, low), high) - low) / (high - low), 2)

    return {
        'accept': place(claim.accept.low),
        'accept_width': round(place(claim.accept.high) - place(claim.accept.low), 2),
        'low': place(claim.interval.low),
        'high': place(claim.interval.high),
        'measured': place(claim.measured),
    }
