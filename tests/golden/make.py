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
import json
import tempfile
from pathlib import Path

import compare

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description="Write golden values.")
    parser.add_argument("parts", nargs="+", metavar="PART", help="core, surface")
    parser.add_argument("--to", type=Path, default=HERE, metavar="DIR", help="where to write")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="cases to write, the others stay")
    arguments = parser.parse_args()
    for part in arguments.parts:
        cases = importlib.import_module(f"{part}_cases").CASES
        values = {}
        if arguments.only:
            values = json.loads((HERE / f"{part}.json").read_text())
            cases = {name: cases[name] for name in arguments.only}
        for name, case in cases.items():
            with tempfile.TemporaryDirectory() as folder:
                values[name] = case(Path(folder))
        compare.write(arguments.to / f"{part}.json", values)


if __name__ == "__main__":
    main()
