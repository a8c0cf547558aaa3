"""The networks of a stage, trained one group after the other or several at once, each in a process of its own.

Processes are spawned, not forked: ONNX Runtime has threads. The parent hands out groups, the largest first, and alone
writes the records of the run; a worker writes nothing but the files of its networks. A worker whose parent is gone ends
at once; one that the parent stops ends between two steps, or between two epochs.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, TypeAlias

from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.graphs.errors import GraphError
from mnx.groups import Group, cost_of, named
from mnx.session import Session, open_session, train_group

TICK_SECONDS: Final = 0.1
"""Between two steps of a network that its process tells of."""

GRACE_SECONDS: Final = 3.0
"""Until a process that is stopped in the middle of an epoch is killed: a step may be long."""

EPOCH, NOW = "after this epoch", "now"
"""When to stop."""

Failure: TypeAlias = MnxError | GraphError | OSError | MemoryError
"""What a training may fail of that is not our bug."""


class Stopped(Exception):
    """The parent wants a worker to stop; no error."""


@dataclass(eq=False)
class Worker:
    """A process, the line to it, the group that it trains, and whether that has made a step."""

    process: BaseProcess
    line: Connection
    group: Group = ()
    stepped: bool = False

    def say(self, *message: object) -> None:
        """Send a message, unless nobody is there any more."""
        with suppress(OSError):
            self.line.send(message)


def train_at_once(
    session: Session, stage: str, together: Sequence[Group], waiting: Mapping[str, int], jobs: int
) -> dict[str, Failure]:
    """Train groups of networks in processes; where one fails, the others finish their epoch and no new one is begun.

    Args:
        session: the call; its data must have a name or path that each process can read them from.
        stage: of the networks.
        together: the groups.
        waiting: multiply-adds of a forward pass of those of their networks that are not trained yet.
        jobs: how many processes.

    Returns:
        The networks that failed, and why.
    """
    left = sorted(together, key=lambda group: cost_of(group, waiting))
    failed: dict[str, Failure] = {}
    workers: list[Worker] = []
    try:
        workers += _started(session, stage, min(jobs, len(left)))
        while workers:
            for worker in _speaking(workers):
                message = _heard(worker)
                match message:
                    case ("event", event):
                        worker.stepped |= event["event"] == "step"
                        session.events.relay(event)
                    case ("ready",) if left and not failed:
                        worker.group, worker.stepped = left.pop(), False
                        worker.say("train", worker.group, dict(waiting))
                    case ("ready",):
                        worker.group, worker.stepped = (), False
                        worker.say("leave")
                    case ("failed", error) | ("gone", error):
                        group = worker.group or next(reversed(left), ())
                        workers = [each for each in workers if each is not worker]
                        if error is not None and group:
                            failed |= dict.fromkeys(named(group, error), error)
                            _finish(session.events, stage, named(group, error), error, workers)
                        _close([worker])
    except BaseException:
        _halt(session.events, workers)
        raise
    finally:
        _close(workers)
    return failed


def _finish(events: Events, stage: str, failed: Group, error: Failure, others: Sequence[Worker]) -> None:
    """Tell of a failure; the other processes finish the epoch that they are in."""
    for other in others:
        other.say("stop", EPOCH)
    tell_failed(events, stage, failed, error, [name for other in others for name in other.group])


def tell_failed(events: Events, stage: str, failed: Group, error: Failure, finishing: Sequence[str] = ()) -> None:
    """Write down which networks failed of an error, and which others finish their epoch, if the disk takes it."""
    with suppress(OSError):
        for name in failed:
            events.record("failed", stage=stage, network=name, reason=str(error), finishing=list(finishing))


def _started(session: Session, stage: str, count: int) -> Iterator[Worker]:
    """Start processes. An interrupt is the parent's to hear: they are born with it blocked."""
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # starting it with the first process would let interrupts through
    order = replace(session, data=None, events=Events())
    for _ in range(count):
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, order, stage), daemon=True)
        with _interrupts_held():
            process.start()
        theirs.close()
        yield Worker(process, ours)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _speaking(workers: Sequence[Worker], seconds: float | None = None) -> list[Worker]:
    ready = connection.wait([worker.line for worker in workers], seconds)
    return [worker for worker in workers if worker.line in ready]


def _heard(worker: Worker) -> Any:
    """The next message of a process; ('gone', why) of one that has ended, None as why of one that was to leave."""
    try:
        return worker.line.recv()
    except (EOFError, OSError):
        worker.process.join()
        return "gone", _end(worker)


def _end(worker: Worker) -> MnxError | None:
    code = worker.process.exitcode
    if not code:
        return None
    what = f"with exit code {code}"
    if code < 0:
        what = f"by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            what += ", as where memory runs out (fewer --jobs take less)"
    return MnxError(f"its process was ended {what}; the same command goes on from its last epoch")


def _halt(events: Events, workers: Sequence[Worker]) -> None:
    """Stop processes between two steps; records of what they have done until then are kept.

    A process that is yet to make its first step has no file half written, and need not be waited for.
    """
    until = time.monotonic() + GRACE_SECONDS
    left = [worker for worker in workers if worker.stepped]
    for worker in workers:
        if worker.stepped:
            worker.say("stop", NOW)
        else:
            worker.process.kill()
    while left and (seconds := until - time.monotonic()) > 0:
        for worker in _speaking(left, seconds):
            match _heard(worker):
                case ("event", event) if "time" in event:
                    with suppress(OSError):  # the error that halts them may be that of a full disk
                        events.relay(event)
                case ("ready",):
                    worker.say("leave")
                case ("gone", _):
                    left.remove(worker)


def _close(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.process.join(TICK_SECONDS)
        worker.process.kill()
        worker.process.join()
        worker.line.close()


def work(line: Connection, order: Session, stage: str) -> None:
    """What a process does: it opens the run, and trains the networks that it is told until it is told to leave."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    stops: list[str] = []
    threading.Thread(target=_listen, args=(line, orders, stops), daemon=True).start()
    try:
        session = _opened(order, _teller(line, stops))
        while True:
            line.send(("ready",))
            match orders.get():
                case ("train", group, costs):
                    train_group(session, stage, group, costs)
                case _:
                    return
    except Stopped:
        os._exit(0)  # the parent waits, and there is nothing to tidy
    except (MnxError, GraphError) as error:  # some of them cannot be sent as they are
        line.send(("failed", (MnxError if isinstance(error, MnxError) else GraphError)(str(error))))
    except BrokenPipeError:
        return
    except (OSError, MemoryError) as error:
        line.send(("failed", error))


def _listen(line: Connection, orders: queue.SimpleQueue[tuple[Any, ...]], stops: list[str]) -> None:
    """Hear the parent while a network is in training; where it is gone, so is this process."""
    while True:
        try:
            message = line.recv()
        except (EOFError, OSError):
            os._exit(1)
        if message[0] == "stop":
            stops.append(message[1])
        orders.put(message)


def _opened(order: Session, events: Events) -> Session:
    """The parent's call, with data of this process's own."""
    found = open_session(order.run, Events(), order.spec, order.train_limit, order.recipe)
    return replace(order, data=found.data, events=events)


def _teller(line: Connection, stops: Sequence[str]) -> Events:
    """Events that tell the parent, and stop the training where it wants that."""
    told: dict[str, float] = {}

    def tell(event: Event) -> None:
        if NOW in stops or (stops and event.get("step") == 1):
            raise Stopped
        now, network = time.monotonic(), event.get("network", "")
        if event["event"] != "step" or now - told.get(network, 0.0) >= TICK_SECONDS:
            if event["event"] == "step":
                told[network] = now
            line.send(("event", dict(event)))

    return Events(listeners=[tell])
