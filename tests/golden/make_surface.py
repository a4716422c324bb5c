"""Make ``surface.json``: ``python tests/golden/make_surface.py``.

Only a version whose surface is meant to be kept may do so; the values that are committed come from
commit fc9e572, the last one before the modules moved. With names of cases as arguments only those
are made anew (for a change that is meant to be seen there). ``--runs DIR`` makes the runs of an
earlier version in DIR instead (see ``surface_cases.make_old``).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from surface_cases import RUNS, VALUES, World, cases, inside, make_old


def main() -> None:
    """Write the values, or with ``--runs`` the runs."""
    if "--runs" in sys.argv:
        RUNS.mkdir(exist_ok=True)
        make_old(RUNS)
        return
    with tempfile.TemporaryDirectory() as folder, inside(Path(folder)):
        world = World(Path(folder).resolve())
        names = [name for name in sys.argv[1:] if name in cases()]
        values = json.loads(VALUES.read_text(encoding="utf-8")) if names else {}
        for name, case in cases().items():
            if names and name not in names:
                continue
            began = time.monotonic()
            values[name] = case(world)
            if (took := time.monotonic() - began) > 2:
                print(f"{took:6.1f} s {name}")
    parts = [f"{json.dumps(name)}: {_text(values[name])}" for name in cases() if name in values]
    VALUES.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _text(value: object) -> str:
    """JSON with a line for each line of a text, and lists of numbers on one line."""
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(f"{json.dumps(k)}: {_text(v)}" for k, v in value.items()) + "\n}"
    if isinstance(value, list) and any(isinstance(v, str | dict | list) for v in value):
        return "[\n" + ",\n".join(_text(v) for v in value) + "\n]"
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
