"""`python -m bench` is the same program as `bench`."""

from bench.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
