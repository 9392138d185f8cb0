"""Capacity during a pass: `working_state` stores it, `feasibility` and `replicas` compute what fits."""
