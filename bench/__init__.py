"""Differentially private generators put to the test: defenses, attacks and the board that judges both."""

__version__ = "0.1.0"
