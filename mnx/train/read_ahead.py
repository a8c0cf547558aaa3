"""Reading in the background what is asked for next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Asked = TypeVar("Asked")
Got = TypeVar("Got")


def read_ahead(read: Callable[[Asked], Got], order: Iterable[Asked], ahead: int) -> Generator[Got, None, None]:
    """What `read` gives for every item in order, read by one thread up to `ahead` items before they are wanted.

    What `read` raises is raised where its item would have come. The thread ends with the last item, with an error, and
    when the generator is closed; whoever closes it waits for the item that is being read.
    """
    waiting: deque[Future[Got]] = deque()
    with ThreadPoolExecutor(1, "mnx-read-ahead") as reader:
        try:
            for item in order:
                waiting.append(reader.submit(read, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            reader.shutdown(wait=False, cancel_futures=True)
