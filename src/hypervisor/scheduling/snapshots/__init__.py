"""The input of a pass: one cluster at one moment, as columns, and how such a snapshot is built.

Amounts are whole numbers (millicores, MiB, thousandths of a GPU). `wording` prints them in units for people.
"""
