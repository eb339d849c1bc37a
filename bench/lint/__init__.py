"""Small trials of a defense that claims DP, without reading its code: what leaves, by which door, and how well covered.

`lint` is the whole of them and `verdicts` keeps what it found. `doors`: what private records leave by, watched while a
defense runs (a `trial` on `records` of our choice); `steps`: the noised sums of a training (a `replay` of its recipe).
"""
