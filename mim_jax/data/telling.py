"""What is said of a data set while it is read: a line for each thing, and each line once."""

import logging

logger = logging.getLogger(__name__)

_told: set[str] = set()


def tell(message: str, once_for: str = "") -> None:
    """Warns, unless this process has said so before; of messages with the same `once_for` only the first is said."""
    key = once_for or message
    if key not in _told:
        _told.add(key)
        logger.warning("%s", message)


def forget() -> None:
    """Lets everything be told again."""
    _told.clear()


def some(names: list[str], most: int = 5) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
