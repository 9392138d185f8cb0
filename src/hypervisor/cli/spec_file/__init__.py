"""Files of `hypervisor deploy -f`: YAML as requests, with every value as it is written.

A YAML loader guesses types: `NO` becomes false and `0644` becomes 420. Here the field decides. A field for
text takes the spelling, and a field for a number takes a decimal number. Anything else is refused with its
line.
"""
