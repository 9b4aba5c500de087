"""Paths as people write them: every door of the package turns them into full ones here."""

from pathlib import Path

from mim_jax.errors import InputError


def local_path(path: str | Path) -> Path:
    """The full path that is meant: `~` is the home folder, what is relative begins in the current folder.

    Symbolic links keep their names, unless `..` has to be followed. Raises InputError for an empty path, for an address
    such as `gs://bucket/folder`, and for the home folder of a user who is not known.
    """
    text = str(path)
    if not text.strip() or "\0" in text:
        raise InputError(f"{text!r} is no path; give that of a file or folder")
    if "://" in text:
        raise InputError(f"{text} is no local path; mount the bucket, or copy what is there, and give its path here")
    try:
        full = Path(path).expanduser().absolute()
        return full.resolve() if ".." in full.parts else full
    except (RuntimeError, OSError) as error:
        raise InputError(f"{text} cannot be followed ({error}); give the full path") from error
