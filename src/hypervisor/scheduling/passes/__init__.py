"""One scheduling pass. `cycle` is the pass step by step; start reading there.

`pass_state` is its data, and `transitions` are the ways to change them. `single_placement` and
`gang_placement` decide on one deployment. `head_of_queue` reserves capacity for the blocked head. `reprieve`
revokes evictions. `apply_plan` is the cluster after a plan was applied.
"""
