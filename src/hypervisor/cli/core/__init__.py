"""Code that several commands use: sessions, output, formatting, options, errors, name resolution."""
