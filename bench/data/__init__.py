"""Where records come from: one file per data set in `sets`, and files of the user."""
