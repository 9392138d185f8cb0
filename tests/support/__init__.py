"""What tests share: real servers, databases, clocks, bounded waiting, and the summary at the end of a run.

Nothing here knows a domain of the product; helpers that do live beside the tests that need them.
"""
