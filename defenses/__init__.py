"""One file per defense: `bench` finds every file here. They import only `bench`."""
