"""Why a deployment waits: a reason with exact shortfalls, and the sentences for the rules of preemption."""
