"""The end of an error message about an unknown name: what the user may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`"; did you mean 'a' or 'b'?"` with up to three near names out of `known`, or the empty string."""
    near = difflib.get_close_matches(wrong, list(known), n=3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
