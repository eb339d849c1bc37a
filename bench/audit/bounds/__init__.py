"""Lower bounds on epsilon from the outcomes of trials."""
