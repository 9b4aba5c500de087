"""However a file is damaged, it is read or refused, and nothing else happens."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.weights.mutations import FILES, original, outcome, run


@pytest.mark.parametrize("name", FILES)
def test_the_originals_are_sound(name, tmp_path):
    (tmp_path / "file").write_bytes(original(name))
    assert outcome(tmp_path / "file") == "read"


def test_damaged_files_are_read_or_refused(tmp_path):
    outcomes = run(range(100), tmp_path)
    assert outcomes["read"] > 3 and outcomes["refused"] > 50


@pytest.mark.slow
@pytest.mark.parametrize("first", [1000, 3000])
def test_thousands_of_damaged_files_are_read_or_refused_with_little_memory_and_time(tmp_path, first):
    command = [sys.executable, "-W", "error", "-m", "tests.weights.mutations", str(first), "2000", str(tmp_path)]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
