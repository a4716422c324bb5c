"""The one loop over the shards of a run: what is there already, what is to be done, what it gave.

A run is split into pieces. What a piece gives depends on the work and the piece alone. In a run
directory the tables of each piece are kept as shards: a run that is stopped goes on with the pieces
that have none, or whose shards are damaged or of another range.

May import: checks, errors, the ``engine*`` and the ``store*`` modules only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, cast

from simprior.runs.directory import RunDir, Written
from simprior.runs.files import write_parts
from simprior.runs.tasks import RunOptions, run_tasks

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Table: TypeAlias = Mapping[str, np.ndarray] | pa.Table
    Columns: TypeAlias = dict[str, np.ndarray]


class Piece(Protocol):
    """A part of a run, as small as is lost at an interruption."""

    @property
    def name(self) -> str:
        """Name of its shard."""

    @property
    def range(self) -> Mapping[str, Any]:
        """Which part of the run it is: its shards are registered with this."""

    @property
    def size(self) -> int:
        """Units of progress in it: networks, say."""


P = TypeVar("P", bound=Piece)
R = TypeVar("R")


@dataclass(frozen=True)
class Shard:
    """A table to be kept under a name, and what is registered with it besides the range.

    ``repeated``: columns with few different values, see :func:`simprior.runs.files.write_parts`.
    """

    name: str
    table: Table
    meta: Mapping[str, Any] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()


class _Record(NamedTuple):
    """A shard that a worker has written, on its way to the process that registers it."""

    name: str
    written: Written
    meta: Mapping[str, Any]


class Work(Generic[P, R]):
    """What a run computes; subclasses are picklable and hold all that determines the result."""

    def in_threads(self) -> bool:
        """Whether local workers may be threads of this process: what
        :func:`simprior.runs.tasks.run_tasks` asks for holds of :meth:`compute` and
        :meth:`shards`."""
        return False

    def compute(self, piece: P) -> R:
        """The result of a piece."""
        raise NotImplementedError

    def names(self, piece: P) -> tuple[str, ...]:
        """Names of the shards of a piece; it is finished when all are there."""
        return (piece.name,)

    def shards(self, piece: P, result: R) -> Sequence[Shard]:
        """The shards that keep ``result``, in the order in which they are registered.

        Here as in :meth:`read` a result is columns, which are kept as they are.
        """
        return [Shard(piece.name, cast("Table", result))]

    def read(self, store: RunDir, piece: P) -> R:
        """The result of a piece from its shards. Raises :class:`StoreError`."""
        return cast(R, store.read_shard(piece.name))


class JsonWork(Work[P, R]):
    """Work whose results JSON can hold, in which every float comes back as it was."""

    def shards(self, piece: P, result: R) -> list[Shard]:
        """One shard, with the text."""
        import numpy as np

        text = json.dumps(result, default=lambda number: number.item()).encode()
        return [Shard(piece.name, {"json": np.frombuffer(text, np.uint8)})]

    def read(self, store: RunDir, piece: P) -> R:
        """The result from its text."""
        return cast(R, json.loads(store.read_shard(piece.name)["json"].tobytes()))


def open_run(
    options: RunOptions, command: str, config: Mapping[str, Any], **recorded: Any
) -> RunDir:
    """The run directory ``options.out``, open for writing (:meth:`RunDir.open`).

    Workers, executor and whatever is ``recorded`` go into the manifest, but are not compared.
    """
    assert options.out is not None
    return RunDir.open(
        options.out,
        command,
        config,
        resume=options.resume,
        overwrite=options.overwrite,
        options={"workers": options.workers, "executor": options.executor, **recorded},
    )


def run_sharded(
    work: Work[P, R], pieces: Sequence[P], options: RunOptions, store: RunDir | None
) -> list[R]:
    """The results of all pieces, in their order; raises what :func:`run_pieces` does."""
    found: dict[str, R] = {}
    run_pieces(work, pieces, options, store, lambda piece, part: found.update({piece.name: part}))
    if store is None:
        return [found[piece.name] for piece in pieces]
    return [work.read(store, piece) for piece in pieces]


def run_pieces(
    work: Work[P, R],
    pieces: Sequence[P],
    options: RunOptions,
    store: RunDir | None,
    receive: Callable[[P, R], object] | None = None,
) -> None:
    """Compute all pieces; with a ``store`` only those that it lacks, each kept as shards there.

    Without one ``receive(piece, result)`` takes each result, in any order. Progress also counts
    the pieces that are there.

    Raises
    ------
    Interrupted, WorkerError, StoreError, and what ``work`` raises.
    """
    todo = [piece for piece in pieces if store is None or not _finished(work, store, piece)]
    if options.progress is not None and len(todo) < len(pieces):
        kept = sum(piece.size for piece in pieces) - sum(piece.size for piece in todo)
        options.progress.update(kept)

    def take(piece: P, result: Any) -> None:
        if store is None:
            if receive is not None:
                receive(piece, result)
            return
        for name, written, meta in result:
            store.register_shard(name, written.sha256, written.rows, written.bytes, meta)

    folder = None if store is None else store.shards_folder
    run_tasks(
        partial(_do, work, folder),
        todo,
        on_result=take,
        workers=min(options.workers, max(1, len(todo))),
        executor=options.executor,
        executor_options=options.executor_options,
        progress=options.progress,
        amount=lambda piece: piece.size,
        threads=work.in_threads(),
    )


def _finished(work: Work[P, Any], store: RunDir, piece: P) -> bool:
    return all(store.has_shard(name, piece.range) for name in work.names(piece))


def _do(work: Work[P, R], folder: Path | None, piece: P) -> R | list[_Record]:
    """A piece in a worker: its result, or what was written into ``folder``."""
    result = work.compute(piece)
    return result if folder is None else _write(work, folder, piece, result)


def _write(work: Work[P, R], folder: Path, piece: P, result: R) -> list[_Record]:
    return [
        _Record(
            shard.name,
            write_parts(folder / f"{shard.name}.parquet", [shard.table], repeated=shard.repeated),
            {**shard.meta, **piece.range},
        )
        for shard in work.shards(piece, result)
    ]
