"""What the documentation shows: commands of a shell, and pieces of Python, in the order of the page."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)
PROGRAMS = ("python ", "pip ", "for ", "export ", "bash ")


def pages() -> list[Path]:
    """README, the pages of docs, and the configurations, whose first lines show how they are called."""
    configurations = [path for path in sorted((ROOT / "configs").rglob("*.py")) if "get_config" in path.read_text()]
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *configurations]


def commands(page: Path) -> list[str]:
    """Commands of a page, without comments; lines that go on are joined, a loop is one command."""
    return [command for text in _shell_texts(page) for command in _commands(text)]


def pieces_of_python(page: Path) -> list[str]:
    """Pieces of Python of a page."""
    if page.suffix != ".md":
        return []
    return [match["text"] for match in FENCE.finditer(page.read_text()) if match["language"] == "python"]


def _shell_texts(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".py":
        yield ast.get_docstring(ast.parse(text)) or ""
        return
    for match in FENCE.finditer(text):
        if match["language"] in ("", "bash", "sh"):
            yield match["text"]


def _commands(text: str) -> Iterator[str]:
    lines = iter(re.sub(r"\\\n\s*", "", text).splitlines())
    for line in lines:
        line = re.sub(r"\s+#.*", "", line.strip())
        if not line.startswith(PROGRAMS):
            continue
        if line.startswith("for "):
            line = "\n".join([line, *_until_done(lines)])
        yield line


def _until_done(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line.strip() == "done":
            return
