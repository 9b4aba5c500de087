"""The HTML report."""

import base64
import dataclasses
import html.parser
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mim_jax.analysis.figures import image_panels, probe_chart
from mim_jax.analysis.report import Configuration, Figure, Section, Table, write_report
from mim_jax.analysis.style import save_figure
from mim_jax.errors import InputError
from tests.analysis.tables import attention_table, probe_table

HOSTILE = '<script>alert("1")</script> & $title'
VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """Elements of a page and their text; fails where tags do not close in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def attributes(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(tmp_path: Path, *parts, title: str = "Report", summary: str = "") -> Page:
    path = write_report(tmp_path / "report.html", title=title, summary=summary, sections=[Section("Part", parts)])
    return Page(path.read_text(encoding="utf-8"))


def test_page_loads_nothing_from_elsewhere(tmp_path):
    page = page_of(tmp_path, "text", Figure(probe_chart(probe_table()), "caption"), Table(attention_table()))
    addresses = [attributes[name] for _, attributes in page.elements for name in ("src", "href") if name in attributes]
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert "link" not in [tag for tag, _ in page.elements]
    (policy,) = [meta["content"] for meta in page.attributes("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in policy


def test_all_text_is_escaped(tmp_path):
    data = pd.DataFrame({HOSTILE: [HOSTILE]})
    figure = Figure(probe_chart(probe_table()), HOSTILE)
    page = page_of(
        tmp_path, HOSTILE, figure, Table(data, HOSTILE), Configuration({HOSTILE: HOSTILE}, HOSTILE),
        title=HOSTILE, summary=HOSTILE,
    )  # fmt: skip
    assert len(page.attributes("script")) == 1
    assert page.words.count(HOSTILE) == 9  # title twice, summary, text, caption, column, cell, note, block
    assert page.attributes("img")[0]["alt"] == HOSTILE


def test_drawn_figures_are_vector_graphics_and_pictures_are_pixels(tmp_path):
    digits = np.zeros((1, 8, 8, 1), np.uint8)
    panels = image_panels(np.stack([digits] * 4, axis=1), "abcd", "step 0")
    page = page_of(tmp_path, Figure(probe_chart(probe_table()), "a"), Figure(panels, "b"))
    sources = [image["src"] for image in page.attributes("img")]
    assert sources[0].startswith("data:image/svg+xml;base64,") and sources[1].startswith("data:image/png;base64,")
    assert b"<svg" in base64.b64decode(sources[0].split(",")[1])
    assert [int(image["width"]) for image in page.attributes("img")][1] == round(96 * panels.get_figwidth())


def test_saved_figures_are_embedded_as_they_are(tmp_path):
    for path in save_figure(probe_chart(probe_table()), tmp_path, "probes"):
        source = page_of(tmp_path, Figure(path, "caption")).attributes("img")[0]["src"]
        assert base64.b64decode(source.split(",")[1]) == path.read_bytes()


def test_table_shows_rounded_numbers_and_sorts_by_exact_ones(tmp_path):
    numbers = {"some_value": [0.123456, np.nan], "count": [1000, 2]}
    data = pd.DataFrame({"name": ["a", "b"], **numbers, "done": [True, False]})
    page = page_of(tmp_path, Table(data, digits=3))
    cells = page.attributes("td")
    assert [cell["data-value"] for cell in cells[:4]] == ["a", "0.123456", "1000", "True"]
    assert cells[5]["data-value"] == ""
    assert "0.123" in page.words and "–" in page.words and "some value" in page.words
    assert [head.get("class") for head in page.attributes("th")] == [None, "number", "number", None]


@pytest.mark.parametrize(("layers", "folded"), [(1, 0), (20, 1)])
def test_long_tables_start_folded(tmp_path, layers: int, folded: int):
    page = page_of(tmp_path, Table(attention_table(layers=layers)))
    assert len(page.attributes("details")) == folded


def test_configuration_is_folded_json(tmp_path):
    page = page_of(tmp_path, Configuration({"mask_ratio": 0.75, "path": Path("data")}))
    assert len(page.attributes("details")) == 1
    assert '{\n  "mask_ratio": 0.75,\n  "path": "data"\n}' in page.words


def test_contents_link_to_every_section(tmp_path):
    sections = [Section(title) for title in ("One", "Two", "Three")]
    page = Page(write_report(tmp_path / "report.html", title="Report", sections=sections).read_text())
    assert [link["href"] for link in page.attributes("a")] == [f"#{part['id']}" for part in page.attributes("section")]


def test_report_is_the_same_every_time_and_leaves_nothing_beside(tmp_path):
    sections = [Section("Part", [Figure(probe_chart(probe_table()), "caption")])]
    first = write_report(tmp_path / "new" / "report.html", title="Report", sections=sections).read_bytes()
    assert write_report(tmp_path / "new" / "report.html", title="Report", sections=sections).read_bytes() == first
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]


def test_failing_report_leaves_the_old_one(tmp_path):
    path = write_report(tmp_path / "report.html", title="Old", sections=[])
    with pytest.raises(InputError, match="absent.png does not exist"):
        write_report(path, title="New", sections=[Section("Part", [Figure(tmp_path / "absent.png", "caption")])])
    assert "Old" in path.read_text()


def test_other_picture_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="neither PNG nor SVG"):
        page_of(tmp_path, Figure(tmp_path / "picture.pdf", "caption"))


def test_style_has_a_dark_and_a_printed_form(tmp_path):
    text = write_report(tmp_path / "report.html", title="Report", sections=[]).read_text()
    assert re.search(r"@media \(prefers-color-scheme: dark\)", text) and "@media print" in text


def test_parts_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Section("Part").title = "Other"
