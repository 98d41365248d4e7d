"""One study: a direction, its loss curve, trials, and the best trial replayed and held out."""
