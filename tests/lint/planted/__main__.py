"""`python -m tests.lint.planted --runs 100`: how often the linter flags each planted bug (`table`)."""

from __future__ import annotations

from .table import main  # a separate module: spawned processes do not load __main__

if __name__ == "__main__":
    main()
