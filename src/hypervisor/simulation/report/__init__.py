"""What a simulation found, for programs (`figures`: plain data) and for people (`page`: one HTML file).

The page is drawn from the figures alone, so whatever it shows is in the JSON too. It carries its style, its
drawings and its script with it and asks no server for anything.
"""
