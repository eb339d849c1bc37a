"""Lower bounds on epsilon: what attacks or canaries prove against a claimed (epsilon, delta).

`bounds`: bounds from scores of independent trials (paired trials, ranks, Clopper-Pearson) and from random inclusion in
one training (one run). `score_file`, `score_audit`: the bounds of a file of scores. `audit`: audits of the defenses of
bench, by one step (`replayed_mechanisms`, `canary`), by whole trainings (`full_training`) or by releases (`black_box`).
"""
