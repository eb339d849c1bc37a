"""Private training: accounting, Poisson batches, clipping, noise, and the training loop."""
