"""One study: a direction, its curve, trials, the best one replayed and held out."""
