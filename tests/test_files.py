"""Files appear whole or not at all."""

import errno

import pytest

from mim_jax.errors import InputError
from mim_jax.files import write_atomically


def test_text_and_bytes_are_written_into_new_folders(tmp_path):
    assert write_atomically(tmp_path / "a" / "b.txt", "é").read_text(encoding="utf-8") == "é"
    assert write_atomically(tmp_path / "b.bin", b"\x00").read_bytes() == b"\x00"


def test_full_disk_leaves_the_old_file_and_nothing_beside(tmp_path, monkeypatch):
    path = write_atomically(tmp_path / "a.txt", "old")

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match="cannot write .*a.txt: No space left on device; make room"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
