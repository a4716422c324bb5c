"""Write the golden values of this checkout: ``python tests/golden/make.py core [surface ...]``.

For each part, ``tests/golden/PART_cases.py`` has ``CASES``, {name: function of an empty directory}.
Each function returns plain values; they go to ``tests/golden/PART.json``, or with ``--to DIR`` to
``DIR/PART.json``. The tests compare floats with a tolerance, since processors round differently. On
one machine a change that keeps behaviour keeps every digit: write the values of two commits with
``--to`` and compare the files with ``cmp``.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path

import compare

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description="Write golden values.")
    parser.add_argument("parts", nargs="+", metavar="PART", help="core, surface")
    parser.add_argument("--to", type=Path, default=HERE, metavar="DIR", help="where to write")
    arguments = parser.parse_args()
    for part in arguments.parts:
        values = {}
        for name, case in importlib.import_module(f"{part}_cases").CASES.items():
            with tempfile.TemporaryDirectory() as folder:
                values[name] = case(Path(folder))
        compare.write(arguments.to / f"{part}.json", values)


if __name__ == "__main__":
    main()
