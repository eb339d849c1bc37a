"""One file a defense; the file is there, so `bench` finds it. They import only `bench`."""
