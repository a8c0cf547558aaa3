"""Parts of messages: what the user may have meant, what a library had to say, the first few of many names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`"; did you mean 'a' or 'b'?"` with up to three near names out of `known`, or the empty string."""
    near = difflib.get_close_matches(wrong, list(known), n=3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def one_line(error: BaseException) -> str:
    """What another library's error says, in one line without full stop: the innermost cause where it names one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()).rstrip(". ")


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for people, the first few of many."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
