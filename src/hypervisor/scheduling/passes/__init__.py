"""One scheduling pass. `cycle` is the pass step by step; start reading there.

`pass_state` is its data, and `transitions` are the ways to change them. `single_placement` and
`gang_placement` decide on one deployment. `head_of_queue` reserves room for the blocked head. `reprieve`
takes back evictions. `apply_plan` shows what a cluster looks like once a plan has come true.
"""
