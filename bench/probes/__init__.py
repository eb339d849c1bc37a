"""Small trials of a defense that claims DP, without reading its code: what leaves, by which door, and how well covered.

`doors`: what private records leave by, watched while a defense runs; `steps`: the noised sums of a training.
"""
