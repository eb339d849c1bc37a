"""Lower bounds on epsilon from the scores of trials with a record and without it."""
