"""Virtual time: the same `plan()` as the server's, run over a workload that was recorded or made up.

`readers` turn files into jobs and nodes, `engine` lets time pass, `metrics` watch it with bounded memory,
`report` turns what was seen into figures, JSON and one HTML page. Nothing here decides where work runs, reads
a clock or talks to a server: the same inputs give the same result, bit for bit.
"""
