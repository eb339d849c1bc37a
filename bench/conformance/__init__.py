"""`bench test my_defense.py`: runs the checks that every component must pass on a component of anybody.

`check`: what a check is; `defense_checks`, `dp_checks`, `attack_checks`: the checks; `short_runs`, `toy_games`,
`toy_releases`: the small runs, games and releases that they use; `end_to_end`: a leaderboard and the controls;
`session`: all checks of the named components.
"""
