"""The kit for components of anybody: `bench test my_defense.py` puts one through what every component here owes.

`check`: what a check is and says; `defenses`, `guarantee`, `attacks`: the checks; `trying`, `scenes`: the small records
and fakes that they run on; `whole`: a crossing and the controls; `session`: all of it, for what was named.
"""
