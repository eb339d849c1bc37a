"""One file per attack; `bench` discovers every file in this package. Attacks import only `bench`."""
