"""What another library's error says, as a part of ours."""

import pytest

from mnx.graphs.suggest import one_line


@pytest.mark.parametrize("text", ["No such node.", "No such\n node. ", "No such node..."])
def test_a_librarys_text_is_one_line_without_a_full_stop(text: str) -> None:
    assert one_line(ValueError(text)) == "No such node"


def test_the_innermost_cause_speaks() -> None:
    error = RuntimeError("outer")
    error.__cause__ = ValueError("inner 1.5.")
    assert one_line(error) == "inner 1.5"
