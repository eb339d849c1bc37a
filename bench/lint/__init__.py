"""The linter: tests whether a defense that claims DP does what it claims, by running it on small data sets.

`linter.lint` runs all probes on one defense; `verdicts` decides which defenses have no fresh verdict and measures them.
`instrumentation` records what passes through DP training, the Gaussian mechanism and the server sum while a defense
runs; `replay` repeats a recorded training on records, batches and noise of the linter's choice.
"""
