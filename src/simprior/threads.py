"""One thread for linear algebra while many small problems are solved.

The matrices are small and the steps many: a threaded BLAS waits for itself. Measured with two
threads on a machine with other work: 4 to 20 times slower at m = 128 and 5 times at m = 1024.
Workers of the engine are single-threaded anyway, so this also keeps results equal to the bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Numerical libraries are single-threaded inside; nothing changes without threadpoolctl."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(1):
        yield
