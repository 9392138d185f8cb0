"""What the commands share: sessions, output, formatting, options, errors, name resolution."""
