"""Paths as people write them."""

import os
from pathlib import Path

import pytest

from mim_jax.errors import InputError
from mim_jax.paths import local_path


def test_relative_home_and_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a b")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("deep") == local_path("./deep/") == tmp_path / "a b" / "deep"
    assert local_path("~/a b") == local_path(Path("~/a b")) == tmp_path / "a b"
    assert local_path("../a b/deep") == local_path("deep/../deep") == tmp_path / "a b" / "deep"


def test_a_link_keeps_its_name_and_its_parent_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real" / "inside").mkdir(parents=True)
    os.symlink(tmp_path / "real" / "inside", tmp_path / "link")
    assert local_path(tmp_path / "link").name == "link"
    assert local_path(tmp_path / "link" / "..").name == "real"


@pytest.mark.parametrize("path", ["", "  ", "gs://bucket/run", "~nobody_of_that_name/run", "a\0b"])
def test_what_is_no_local_path_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="path|followed"):
        local_path(path)
