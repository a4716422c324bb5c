"""``python -m simprior`` is the console script ``simprior``."""

from simprior.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
