"""Long chains in blocks, kept in a run directory; and a posterior as a run directory.

At regular times a chain hands over its draws, with all that its next draw depends on (parameters,
adaptation, the state of its generator): a block. A run that was stopped continues from its last
block, and its numbers are the same bit for bit. Where a block ends changes no number.

Shards of chain c: ``c-b-draws`` for every block b, and ``c-b-state`` for the last one. A block
counts when both are registered, draws first; then the state before it is removed.

While a posterior is drawn its directory holds such shards; then its counts and ``posterior.json``
(:func:`stored_posterior`). The lock is held from the start to the end, and the run is marked
complete when both files are there and registered.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simprior.boolean.sampling.counts import COUNTS, FunctionCounts
from simprior.boolean.sampling.rows import key_columns, words_from_columns, write_rows
from simprior.errors import StoreError
from simprior.runs.directory import RunDir, load_run, read_table, write_table
from simprior.runs.tasks import RunOptions, run_tasks

BLOCK_SECONDS = 4.0  # work of a chain between two reports, and that a kill may cost, about
State = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """Work to be done: chain ``chain`` from ``state`` on (None: from its start)."""

    chain: int
    index: int
    state: State | None


@dataclass(frozen=True)
class Piece:
    """What a block gives: packed draws (k, W), the state after them, and whether all is done."""

    words: np.ndarray
    state: State
    done: bool


class Clock:
    """Portions of work until ``seconds`` are up: 1, 2, 4, ... ``most``; at least one portion."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._step = 1 if np.isfinite(seconds) else 1 << 62
        self.up = False

    def portions(self, done: int, total: int, most: int) -> Iterator[int]:
        """Sizes of the portions of ``total - done`` units, none once the time is up."""
        while done < total and not self.up:
            count = min(self._step, most, total - done)
            yield count
            done += count
            self._step *= 2
            self.up = time.monotonic() >= self._end


@dataclass
class _Chain:
    """What is known of one chain: its blocks of draws (in memory), rows drawn, its last state."""

    words: list[np.ndarray] = field(default_factory=list)
    blocks: int = 0
    rows: int = 0
    state: State | None = None
    done: bool = False


Advance = Callable[[int, State | None, float], Piece]


def run_chains(
    advance: Advance,
    chains: int,
    m: int,
    options: RunOptions,
    store: RunDir | None,
    *,
    threads: bool = False,
) -> list[tuple[np.ndarray, State]]:
    """(draws (k, W), last state) of every chain.

    Parameters
    ----------
    advance : callable
        ``(chain, state, seconds) -> Piece``, picklable unless in ``threads``: goes on from
        ``state`` for about ``seconds``. State: arrays, numbers, texts.
    chains, m : int
        Number of chains; inputs of a function.
    options : RunOptions
        Workers and progress are read, which counts rows of draws.
    store : RunDir, optional
        Where blocks are kept, and found again; without it all is in memory.
    threads
        See :func:`simprior.runs.tasks.run_tasks`.

    Raises
    ------
    StoreError, Interrupted, and what ``advance`` raises.
    """
    found = [_Chain() if store is None else _kept(store, c) for c in range(chains)]
    progress = options.progress
    if progress is not None and any(chain.rows for chain in found):
        progress.update(sum(chain.rows for chain in found))
    todo = [Block(c, f.blocks, f.state) for c, f in enumerate(found) if not f.done]

    def receive(block: Block, piece: Piece) -> None:
        chain = found[block.chain]
        if store is None:
            chain.words.append(piece.words)
        else:
            _keep(store, block, piece)
        chain.blocks, chain.rows = block.index + 1, chain.rows + len(piece.words)
        chain.state, chain.done = piece.state, piece.done
        if progress is not None:
            progress.update(len(piece.words))

    def follow(block: Block, piece: Piece) -> Block | None:
        return None if piece.done else Block(block.chain, block.index + 1, piece.state)

    run_tasks(
        partial(_advance, advance, BLOCK_SECONDS),
        todo,
        on_result=receive,
        workers=min(options.workers, max(1, len(todo))),
        then=follow,
        threads=threads,
    )
    out = []
    for c, chain in enumerate(found):
        assert chain.state is not None
        words = chain.words if store is None else _draws(store, c, chain.blocks, m)
        out.append((np.concatenate(words), chain.state))
    return out


def _advance(advance: Advance, seconds: float, block: Block) -> Piece:
    return advance(block.chain, block.state, seconds)


def generator_state(source: np.random.Generator) -> str:
    """All of a generator, as text."""
    return json.dumps(source.bit_generator.state, default=lambda value: value.tolist())


def restore_generator(source: np.random.Generator, text: str) -> None:
    """Inverse of :func:`generator_state`, in place."""
    source.bit_generator.state = json.loads(text)


def _name(chain: int, block: int, kind: str) -> str:
    return f"{chain:06d}-{block:06d}-{kind}"


def _keep(store: RunDir, block: Block, piece: Piece) -> None:
    parts = {"draws": key_columns(piece.words), "state": _to_columns(piece.state)}
    for kind, columns in parts.items():
        name = _name(block.chain, block.index, kind)
        written = write_table(store.shard_path(name), columns)
        meta = {"done": piece.done} if kind == "state" else {}
        store.register_shard(name, written.sha256, written.rows, written.bytes, meta)
    if block.index:
        store.remove_shard(_name(block.chain, block.index - 1, "state"))


def _kept(store: RunDir, number: int) -> _Chain:
    """What an earlier run left of a chain: as far as its blocks are whole and have a state."""
    prefix = f"{number:06d}-"
    mine = [name for name in store.shards if name.startswith(prefix)]
    last = max((int(name.split("-")[1]) for name in mine if name.endswith("state")), default=-1)
    chain = _Chain()
    needed = [_name(number, b, "draws") for b in range(last + 1)]
    needed += [_name(number, last, "state")] if last >= 0 else []
    if last >= 0 and all(map(store.has_shard, needed)):
        entry = store.shards[needed[-1]]
        chain.state = _from_columns(read_table(store.shard_path(needed[-1])))
        chain.blocks, chain.done = last + 1, bool(entry["meta"].get("done"))
        chain.rows = sum(store.shards[name]["rows"] for name in needed[:-1])
    else:
        needed = []
    for name in mine:
        if name not in needed and name in store.shards:
            store.remove_shard(name)
    return chain


def _draws(store: RunDir, chain: int, blocks: int, m: int) -> list[np.ndarray]:
    shards = (store.read_shard(_name(chain, b, "draws")) for b in range(blocks))
    return [words_from_columns(shard, m) for shard in shards]


def _to_columns(state: Mapping[str, Any]) -> Any:
    """A table with a row for each value: name, type, shape and bytes."""
    import pyarrow as pa

    rows: dict[str, list[Any]] = {"name": [], "dtype": [], "shape": [], "data": []}
    for name, value in state.items():
        array = np.ascontiguousarray(np.asarray(value))
        data = value.encode() if isinstance(value, str) else array.tobytes()
        rows["name"].append(name)
        rows["dtype"].append("text" if isinstance(value, str) else array.dtype.str)
        rows["shape"].append(json.dumps(list(np.shape(value))))
        rows["data"].append(data)
    return pa.table(
        {
            name: pa.array(values, pa.binary() if name == "data" else pa.string())
            for name, values in rows.items()
        }
    )


def _from_columns(columns: Mapping[str, np.ndarray]) -> State:
    out: State = {}
    names = ("name", "dtype", "shape", "data")
    for name, kind, shape, data in zip(*(columns[n] for n in names), strict=True):
        if kind == "text":
            out[name] = data.decode()
            continue
        value = np.frombuffer(data, np.dtype(kind)).reshape(json.loads(shape)).copy()
        out[name] = value if value.ndim else value.item()
    return out


def check_rows(draws: np.ndarray, rows: int, what: str) -> None:
    """Refuse draws whose kept blocks do not add up to ``rows``: :class:`StoreError`."""
    if len(draws) != rows:
        raise StoreError(
            f"{what}: {len(draws)} draws are kept in place of {rows}; start again with --overwrite"
        )


COMMAND, REPORT = "posterior", "posterior.json"


def stored_posterior(
    draw: Callable[[RunDir], FunctionCounts],
    config: Mapping[str, Any],
    options: RunOptions,
    about: Callable[[FunctionCounts], Mapping[str, Any]] = lambda counts: {},
) -> FunctionCounts:
    """What ``draw`` gives, kept in the run directory ``options.out``; a finished run is only read.

    Parameters
    ----------
    draw : callable
        Draws with the run directory as ``store=``, e.g. ``slice_posterior``.
    config : mapping
        Everything that determines the result; ``resume`` demands an equal one.
    about : callable, optional
        Further entries of the report, of the counts (``posterior.json`` alone has
        ``train_index``).

    Raises
    ------
    StoreError, Interrupted, and what ``draw`` raises.
    """
    assert options.out is not None
    recorded = {"workers": options.workers}
    resume, overwrite = options.resume, options.overwrite
    with RunDir.open(
        options.out, COMMAND, config, resume=resume, overwrite=overwrite, options=recorded
    ) as store:
        if store.finished(COUNTS, REPORT):
            return load_posterior(store.path)
        counts = draw(store)
        report = counts.info["posterior"]
        report |= about(counts)
        write_rows(store.path / COUNTS, counts.rows)
        store.add_file(COUNTS, rows=len(counts))
        plain = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in report.items()
        }
        store.write_file(REPORT, json.dumps(plain, indent=1) + "\n")
        store.finish(counts.run_totals())
        store.clear_shards()
    report.pop("train_index", None)
    return counts


def load_posterior(path: Path | str) -> FunctionCounts:
    """Counts of a complete run with its report. Raises :class:`StoreError`."""
    path, run = Path(path), load_run(path)
    if run.command != COMMAND or run.status != "complete" or REPORT not in run.files:
        raise run.in_place_of(f"a complete run of 'simprior {COMMAND}'")
    counts = FunctionCounts.load(path)
    report = run.read_json(REPORT)
    report.pop("train_index", None)
    counts.info["posterior"] = report
    return counts
