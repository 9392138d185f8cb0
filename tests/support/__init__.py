"""What tests share: real servers, databases, clocks, bounded waiting, and the summary at the end of a run.

Nothing here depends on a domain of the product; such helpers are beside their tests.
"""
