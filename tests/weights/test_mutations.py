"""However a file is damaged or changed, it is read or refused, and nothing else happens."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.weights.mutated_networks import ends
from tests.weights.mutations import FILES, damaged, original, outcome, run

FEW, MANY = 100, 1500  # changed networks in every run of the tests, and in a long one


@pytest.mark.parametrize("name", FILES)
def test_the_originals_are_sound(name, tmp_path):
    (tmp_path / "file").write_bytes(original(name))
    assert outcome(tmp_path / "file") == "read"


def test_damaged_files_are_read_or_refused(tmp_path):
    outcomes = run(range(100), tmp_path, damaged)
    assert outcomes["read"] > 3 and outcomes["refused"] > 50


def test_changed_networks_are_models_or_refused(tmp_path):
    outcomes = run(range(FEW), tmp_path, ends)
    assert outcomes["read"] > FEW / 20 and outcomes["refused"] > FEW / 2


def go_through(*arguments: object) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.weights.mutations", *map(str, arguments)]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("first", [1000, 3000])
def test_thousands_of_damaged_files_are_read_or_refused_with_little_memory_and_time(first):
    go_through("--of", "bytes", "--seed", first, "--count", 2000)


@pytest.mark.long
def test_many_changed_networks_are_models_or_refused_with_little_memory_and_time():
    go_through("--of", "networks", "--seed", FEW, "--count", MANY)
