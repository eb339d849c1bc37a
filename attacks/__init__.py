"""One file an attack; the file is there, so `bench` finds it. They import only `bench`."""
