"""Data sets, one file each, so that a change in one makes the cells of that set alone stale."""
