"""What feeds networks with batches: a graph on the device, beside raw data that stay there as they were read.

Of a batch only its indices and draws come from the host; scaling and augmentation are graph ops, and the inputs that
they make stay on the device, to be bound as inputs of a training step or of several. Data that are larger than is
allowed to stay come batch by batch, read from the host's memory or a memory-mapped file, through the same graph: the
numbers are the same.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeAlias

import numpy as np

from mnx.data.rows import Raw
from mnx.data.scaling import Scaling, apply
from mnx.errors import MnxError
from mnx.graphs.model import Array
from mnx.train.augment import PARTNERS, PLAIN, SHARE, Augmentation, Mixture, draws, mixture
from mnx.train.feed_graph import INDICES, fed_output, feed_graph, image_size, raw_input
from mnx.train.onnxruntime_sessions import require_device, resident, run, session
from mnx.train.read_ahead import read_ahead

RESIDENT: Final = 4 << 30
"""Data of so many bytes stay on the device, larger ones do not, unless told otherwise."""
AHEAD: Final = 3
"""So many batches are read before they are wanted."""

Fed: TypeAlias = "tuple[Any, ...]"
"""OrtValues on the device, one for every input of the members, each (batch, *input shape)."""
Rows: TypeAlias = "tuple[Array, tuple[Any, ...]]"
"""Where the examples of a batch are, and the arrays in which they are: all data, or only these rows."""


class Feed:
    """Makes batches of one part of a data set. Equal arguments give equal batches, bit for bit."""

    def __init__(
        self,
        raw: Sequence[Raw],
        scalings: Sequence[Scaling],
        augmentation: Augmentation = PLAIN,
        device: str = "cpu",
        threads: int = 1,
        seed: int = 0,
        resident_bytes: int = RESIDENT,
    ) -> None:
        """Bring the data to the device, or keep them where they are if they are larger than `resident_bytes`.

        Args:
            raw: examples as they were read, (n, *raw shape) for every input of the members; may be memory maps or
                rows of them. On the CPU they are not copied and must not change.
            scalings: what makes the members' inputs of them.
            augmentation: what `batch` does beside that.
            device: 'cpu' or 'cuda'.
            threads: of the CPU. The threads of two sessions get in each other's way, and one is quick enough.
            seed: decides every draw, not negative.
            resident_bytes: the most that all arrays together may take of the device's memory.

        Raises:
            MnxError: the device is missing, data and scalings do not fit each other, or the augmentation does not fit
                the inputs.
        """
        require_device(device)
        if len(raw) != len(scalings) or not raw or len({len(array) for array in raw}) != 1:
            raise MnxError(
                f"{len(raw)} arrays with {', '.join(str(len(array)) for array in raw) or 'no'} examples do not fit "
                f"{len(scalings)} inputs: give one array for each, with an equal number of examples"
            )
        self._raw, self._device, self._seed, self._augmentation = tuple(raw), device, seed, augmentation
        self._size = image_size(scalings, augmentation)
        outputs = [apply(scaling, array[:0]).dtype.name for scaling, array in zip(scalings, raw, strict=True)]
        dtypes = [array.dtype.name for array in raw]
        self._plain = session(feed_graph(dtypes, scalings, outputs, PLAIN), device, threads)
        self._augmented = self._plain
        if augmentation != PLAIN:
            self._augmented = session(feed_graph(dtypes, scalings, outputs, augmentation), device, threads)
        stays = sum(array.nbytes for array in raw) <= resident_bytes
        self._resident = tuple(resident(np.asarray(array), device) for array in raw) if stays else None
        self._closed = False
        self._readers: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()

    @property
    def streams(self) -> bool:
        """Whether the data come batch by batch."""
        return self._resident is None

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._raw[0])

    def batch(self, indices: Array, epoch: int, step: int) -> Fed:
        """Training examples, augmented.

        Args:
            indices: of the examples, integers of shape (batch,).
            epoch: counted from 0; decides the draws together with seed and indices.
            step: of the epoch, counted from 0; decides how examples are mixed.

        Raises:
            IndexError: an index is out of range.
        """
        return self._augmented_batch(indices, self._rows(indices), epoch, step)

    def plain(self, indices: Array) -> Fed:
        """Examples without augmentation: to the bit what `Part.x` gives.

        Raises:
            IndexError: an index is out of range.
        """
        return self._made(self._plain, self._rows(indices), {})

    def mixture(self, indices: Array, epoch: int, step: int) -> Mixture | None:
        """How `batch` mixes these examples, for the loss; None where it does not."""
        return mixture(self._augmentation, self._seed, epoch, step, indices)

    def each(self, order: Iterable[Array], epoch: int | None = None) -> Iterator[tuple[Array, Fed]]:
        """The batches of an epoch one by one, (indices, inputs); data that do not stay are read ahead by a thread.

        The thread ends with the last batch, or when the iterator or the feed is closed.

        Args:
            order: the indices of every batch.
            epoch: counted from 0: batches as `batch` gives them, of steps 0, 1, ...; None: as `plain` does.

        Raises:
            IndexError: an index is out of range.
        """
        rows = self._read_ahead(order) if self.streams else ((each, self._rows(each)) for each in order)
        for step, (indices, found) in enumerate(rows):
            if epoch is None:
                yield indices, self._made(self._plain, found, {})
            else:
                yield indices, self._augmented_batch(indices, found, epoch, step)

    def close(self) -> None:
        """End every thread that reads ahead; whoever still asks `each` for a batch gets a ValueError."""
        self._closed = True
        for reader in list(self._readers):
            reader.close()

    def __enter__(self) -> Feed:
        """The feed itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _read_ahead(self, order: Iterable[Array]) -> Iterator[tuple[Array, Rows]]:
        reader = read_ahead(lambda indices: (indices, self._rows(indices)), order, AHEAD)
        self._readers.add(reader)
        try:
            yield from reader
            if self._closed:
                raise ValueError("the feed was closed before its last batch")
        finally:
            reader.close()

    def _rows(self, indices: Array) -> Rows:
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise IndexError(f"indices are integers of shape (batch,), not {indices.dtype} and {indices.shape}")
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"indices reach from {indices.min()} to {indices.max()}; there are {len(self)} examples")
        if self._resident is not None:
            return indices.astype(np.int64), self._resident
        # In the order in which they lie in the file, which is the quick one to read.
        chosen, places = np.unique(indices, return_inverse=True)
        return places.astype(np.int64), tuple(np.ascontiguousarray(array[chosen]) for array in self._raw)

    def _augmented_batch(self, indices: Array, rows: Rows, epoch: int, step: int) -> Fed:
        drawn = draws(self._augmentation, self._size, self._seed, epoch, indices)
        mixed = self.mixture(indices, epoch, step)
        if mixed is not None:
            drawn |= {PARTNERS: mixed.places, SHARE: np.array(mixed.share, np.float32)}
        return self._made(self._augmented, rows, drawn)

    def _made(self, graph: Any, rows: Rows, drawn: Mapping[str, Array]) -> Fed:
        """New values on the device, from a binding of their own: the next batch does not write over them."""
        places, arrays = rows
        binding = graph.io_binding()
        for place, array in enumerate(arrays):
            if self._resident is not None:
                binding.bind_ortvalue_input(raw_input(place), array)
            else:
                binding.bind_cpu_input(raw_input(place), array)
        for name, array in {INDICES: places, **drawn}.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array).reshape(array.shape))
        for place in range(len(arrays)):
            binding.bind_output(fed_output(place), self._device)
        run(graph, binding)
        return tuple(binding.get_outputs())
