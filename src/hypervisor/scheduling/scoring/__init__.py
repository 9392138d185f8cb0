"""Where a request goes among the nodes that can take it: one file a score, all behind `Scorer`."""
