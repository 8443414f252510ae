"""A layer's weights: an array, or what is computed or read each time it is asked for.

NumPy is imported where something is computed: who only moves weights does not need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"


class DeferredBlob:
    """Weights that are computed when they are read, so that a whole net never lies in memory.

    Behaves as a read-only float32 array where `numpy.asarray` is applied; every such call computes
    anew. Args: the shape, a function without arguments that returns an array of that shape, and, where
    the values can be had piecemeal, one that does what `pieces` does.
    """

    def __init__(
        self,
        shape: Sequence[int],
        compute: Callable[[], Array],
        pieces: Callable[[int], Iterator[memoryview]] | None = None,
    ) -> None:
        self.shape = tuple(int(extent) for extent in shape)
        self._compute = compute
        self._pieces = pieces

    def pieces(self, unit: int = 1) -> Iterator[memoryview]:
        """The values in order, as contiguous float32; each piece is valid until the next is asked for.

        Each is a multiple of `unit` values, which must divide the blob's size.
        """
        return self._pieces(unit) if self._pieces else _whole(self)

    @property
    def dtype(self) -> np.dtype[np.float32]:
        import numpy as np

        return np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def reshape(self, shape: Sequence[int]) -> DeferredBlob:
        """The same values in their order; `shape` has as many."""
        return DeferredBlob(shape, lambda: self._compute().reshape(tuple(shape)), self._pieces)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        import numpy as np

        values = np.asarray(self._compute(), dtype=np.float32)
        assert values.shape == self.shape, (values.shape, self.shape)
        return values if dtype is None else values.astype(dtype, copy=False)


Blob: TypeAlias = "Array | DeferredBlob"


def pieces_of(blob: Blob, unit: int = 1) -> Iterator[memoryview]:
    """As `DeferredBlob.pieces`, of either kind of blob."""
    return blob.pieces(unit) if isinstance(blob, DeferredBlob) else _whole(blob)


def _whole(blob: Blob) -> Iterator[memoryview]:
    import numpy as np

    if blob.size:
        yield np.ascontiguousarray(blob, dtype="<f4").reshape(-1).data
