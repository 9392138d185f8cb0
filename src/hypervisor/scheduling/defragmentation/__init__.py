"""Running work that would have to be elsewhere: holes, moves that open one, proposals, smaller nodes."""
