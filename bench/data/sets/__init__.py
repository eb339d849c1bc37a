"""Data sets, one file each: what a new one decides, it decides for its own cells alone."""
