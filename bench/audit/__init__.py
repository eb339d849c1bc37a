"""Scores in, bounds on epsilon out: what the answers of an attack prove against a claimed (epsilon, delta).

`rates`: independent trials; `one_run`: random coins in one training; `scores`: a file of them; `report`: its figures.
"""
