"""How networks in training are shown: a row for each, never more lines or columns than the screen has."""

import io

import pytest
from rich.console import Console

from mnx.board import FAILED, STOPPED, TRAINED, TRAINING, WAITING, Board
from mnx.cli.board import board_table
from mnx.events import Event


def opened(names: list[str], trained: int = 0) -> Event:
    networks = {"networks": dict.fromkeys(names, 10), "trained": names[:trained]}
    return {"event": "stage", "stage": "members", **networks, "limit": 10, "jobs": 2, "threads": 1}


def stage(count: int, trained: int = 0) -> Board:
    """A stage of so many networks, of which so many are trained."""
    board = Board()
    board.hear(opened([f"a-network-with-a-long-name-{index}" for index in range(count)], trained), 0.0)
    return board


def step(board: Board, index: int, epoch: int, done: int, now: float) -> None:
    name = f"a-network-with-a-long-name-{index}"
    event = {"event": "step", "stage": "members", "network": name, "epoch": epoch, "step": done, "steps": 10}
    board.hear({**event, "loss": 0.25, "accuracy": 0.75}, now)


def epoch(board: Board, index: int, number: int, now: float, seconds: float = 2.0) -> None:
    name = f"a-network-with-a-long-name-{index}"
    event = {"event": "epoch", "stage": "members", "network": name, "epoch": number, "seconds": seconds}
    board.hear({**event, "loss": 0.25, "train_score": 0.75, "validation_score": 0.5}, now)


def lines(board: Board, width: int, height: int, now: float = 10.0) -> list[str]:
    written = io.StringIO()
    Console(file=written, width=width, height=height).print(board_table(board, now, width, height))
    return written.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize(("count", "height"), [(1, 10), (2, 10), (30, 10), (30, 24), (30, 5), (30, 60)])
def test_the_board_fits_the_screen(count: int, width: int, height: int) -> None:
    board = stage(count)
    step(board, count - 1, 3, 5, 1.0)
    step(board, count - 1, 3, 8, 2.0)
    if count > 1:
        epoch(board, 0, 1, 3.0)
    shown = lines(board, width, height)
    assert len(shown) < height
    assert all(len(line.rstrip()) <= width for line in shown)
    if width >= 60:
        assert any(f"-{count - 1} " in line and "3/10" in line and "left" in line for line in shown)
    assert f"members 0/{count} trained" in shown[-1]


def test_what_has_no_row_is_counted() -> None:
    board = stage(30, trained=4)
    step(board, 20, 3, 5, 1.0)
    shown = lines(board, 100, 12)
    assert shown[-2].startswith("… and 17 waiting, 4 trained")
    assert "name-20" in "".join(shown)


def test_a_network_and_its_stage_know_the_most_time_that_is_left() -> None:
    board = stage(2)
    for now, done in ((100.0, 1), (104.5, 10)):
        step(board, 0, 1, done, now)
    first, other = board.rows.values()
    assert first.seconds_left(104.5) == pytest.approx(4.5 / 0.9 * 9)
    assert other.seconds_left(104.5) is None
    assert board.seconds_left(104.5) == pytest.approx(4.5 / 0.9 * 19)
    assert board.share() == pytest.approx(1 / 20)


def test_records_alone_are_enough() -> None:
    board = stage(2)
    epoch(board, 0, 5, 50.0)  # the first after a resumption
    row = board.rows["a-network-with-a-long-name-0"]
    assert (row.state, row.position, row.validation) == (TRAINING, 5.0, 0.5)
    assert row.seconds_left(50.0) == pytest.approx(2.0 * 5)


def test_failed_and_stopped_networks_say_so() -> None:
    board = stage(3)
    step(board, 0, 1, 1, 0.0)
    step(board, 1, 1, 1, 0.0)
    failed = {"event": "failed", "stage": "members", "network": "a-network-with-a-long-name-0", "reason": "memory"}
    board.hear(failed, 1.0)
    board.hear({"event": "stopped", "stage": "members", "reason": "interrupted"}, 2.0)
    assert [row.state for row in board.rows.values()] == [FAILED, STOPPED, WAITING]
    assert board.ended == "interrupted"
    board.hear(opened(list(board.rows)), 3.0)
    assert board.count(WAITING) == 3
    assert board.ended == ""
    trained = {**failed, "event": "trained", "epochs": 3, "validation_score": 1.0}
    board.hear(trained, 9.0)
    assert board.count(TRAINED) == 1
