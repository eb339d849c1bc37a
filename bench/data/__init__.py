"""Data sets: one file per set in `sets`, and files of the user."""
