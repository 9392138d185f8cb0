"""Why a deployment waits: a reason with exact shortfalls, and the words for rules of preemption."""
