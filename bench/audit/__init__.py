"""Scores in, bounds on epsilon out: what the answers of an attack prove against a claimed (epsilon, delta).

`rates`, `ranks`, `pairs`: independent trials; `one_run`: random coins in one training; `scores`: a file of them;
`report`: its figures. Audits of our own rows: `doors` and `canary` (one step), `whole`, `black_box`, put together by
`rows`; `kept`: what they found; `page`: results/audit.md.
"""
