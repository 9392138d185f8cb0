"""Moving running work: fragmentation, moves that open a place, consolidation, and smaller nodes."""
