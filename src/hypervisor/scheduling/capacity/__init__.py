"""Capacity during a pass: `working_state` holds it, `feasibility` and `replicas` say what fits where."""
