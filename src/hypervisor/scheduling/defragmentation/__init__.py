"""Moving running work: fragmentation, moves that make room for a request, consolidation, shrinking nodes."""
