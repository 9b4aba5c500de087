"""One self-contained HTML page: text, figures, tables and configuration, readable without a network."""

import base64
import dataclasses
import functools
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.figure
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from mim_jax.analysis.page import PAGE, SCRIPT, STYLE
from mim_jax.analysis.style import figure_bytes
from mim_jax.errors import InputError
from mim_jax.files import write_atomically

COLLAPSED_FROM = 30
"""Tables of more rows start folded."""
PIXELS_PER_INCH = 96
_MEDIA_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure with what it shows.

    Attributes:
        content: a matplotlib figure, or the path of a PNG or SVG file.
        caption: what is drawn and how it is defined; stands below.
    """

    content: matplotlib.figure.Figure | Path
    caption: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that sorts by a click on a column.

    Attributes:
        data: the rows; the index is not shown.
        caption: what the rows are; stands below.
        digits: significant digits of floating-point numbers.
    """

    data: pd.DataFrame
    caption: str = ""
    digits: int = 4


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A configuration, shown as JSON in a block that opens by a click."""

    values: Mapping[str, Any]
    title: str = "Configuration"


Part = str | Figure | Table | Configuration


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands under it, in order; a string is a paragraph of plain text."""

    title: str
    parts: Sequence[Part] = ()


def write_report(path: str | Path, *, title: str, sections: Sequence[Section], summary: str = "") -> Path:
    """Writes the report as one HTML file that loads nothing from elsewhere; all text is escaped. Returns the path.

    Raises:
        InputError: if a figure is a file that is missing or neither PNG nor SVG.
    """
    page = PAGE.substitute(
        title=html.escape(title),
        style=STYLE,
        script=SCRIPT,
        summary=_render(summary) if summary else "",
        contents=_contents(sections),
        sections="\n".join(_section(number, section) for number, section in enumerate(sections, 1)),
    )
    return write_atomically(path, page.encode())


def _contents(sections: Sequence[Section]) -> str:
    if len(sections) < 3:
        return ""
    titles = [html.escape(section.title) for section in sections]
    links = [f'<li><a href="#section-{number}">{title}</a></li>' for number, title in enumerate(titles, 1)]
    return f'<nav aria-label="Contents"><ul>{"".join(links)}</ul></nav>'


def _section(number: int, section: Section) -> str:
    parts = "\n".join(map(_render, section.parts))
    return f'<section id="section-{number}">\n<h2>{html.escape(section.title)}</h2>\n{parts}\n</section>'


@functools.singledispatch
def _render(part: object) -> str:
    raise InputError(f"a report holds text, figures, tables and configurations, not {type(part).__name__}")


@_render.register
def _(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


@_render.register
def _(figure: Figure) -> str:
    caption = html.escape(figure.caption)
    picture = f'<img src="{_data_address(figure.content)}"{_display_width(figure.content)} alt="{caption}">'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


@_render.register
def _(table: Table) -> str:
    numeric = [is_numeric_dtype(kind) and not is_bool_dtype(kind) for kind in table.data.dtypes]
    head = "".join(_head_cell(name, number) for name, number in zip(table.data.columns, numeric))
    rows = "\n".join(
        f"<tr>{''.join(_cell(value, number, table.digits) for value, number in zip(row, numeric))}</tr>"
        for row in table.data.itertuples(index=False, name=None)
    )
    grid = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    note = f'<div class="note">{html.escape(table.caption)}</div>' if table.caption else ""
    if len(table.data) <= COLLAPSED_FROM:
        return grid + note
    return f"<details><summary>Table of {len(table.data):,} rows</summary>{grid}</details>{note}"


@_render.register
def _(configuration: Configuration) -> str:
    values = html.escape(json.dumps(dict(configuration.values), indent=2, default=str, ensure_ascii=False))
    return f"<details><summary>{html.escape(configuration.title)}</summary><pre>{values}</pre></details>"


def _head_cell(name: object, number: bool) -> str:
    kind = ' class="number"' if number else ""
    return f'<th scope="col"{kind}><button type="button">{html.escape(str(name).replace("_", " "))}</button></th>'


def _cell(value: object, number: bool, digits: int) -> str:
    """Shows a rounded number and sorts by the exact one."""
    kind = ' class="number"' if number else ""
    if pd.isna(value):
        return f'<td{kind} data-value="">–</td>'
    text = f"{value:#.{digits}g}".rstrip(".") if isinstance(value, float) else str(value)
    return f'<td{kind} data-value="{html.escape(str(value))}">{html.escape(text)}</td>'


def _data_address(content: matplotlib.figure.Figure | Path) -> str:
    """The picture itself as an address; as an image, an SVG file can neither run scripts nor clash with another."""
    if isinstance(content, Path):
        kind, data = content.suffix.lower(), _read(content)
    else:
        # Pixels are smaller as PNG, and no sharper as SVG.
        kind = ".png" if any(axes.images for axes in content.axes) else ".svg"
        data = figure_bytes(content, kind[1:])
    return f"data:{_MEDIA_TYPES[kind]};base64,{base64.b64encode(data).decode()}"


def _display_width(content: matplotlib.figure.Figure | Path) -> str:
    """The size in inches that text in the figure was set for; a file has its own."""
    return "" if isinstance(content, Path) else f' width="{PIXELS_PER_INCH * content.get_figwidth():.0f}"'


def _read(path: Path) -> bytes:
    if path.suffix.lower() not in _MEDIA_TYPES:
        raise InputError(f"figure file {path} is neither PNG nor SVG; save it as one of them")
    if not path.is_file():
        raise InputError(f"figure file {path} does not exist; draw it first")
    return path.read_bytes()
