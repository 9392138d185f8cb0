"""What a pass is given: one cluster at one moment, as columns, and how such a snapshot is built.

Amounts are whole numbers (millicores, MiB, thousandths of a GPU); `wording` says them in the units of people.
"""
