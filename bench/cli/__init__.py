"""The command line: one file per command, the flags that they share (`options`) and the program itself (`main`)."""
