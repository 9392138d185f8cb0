"""What `hypervisor doctor` looks at: one check a subject, each a few findings with what to do about them.

Checks only look. They write nothing, make no file, and start no runtime that a server may be using.
"""
