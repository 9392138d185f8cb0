"""The steps of one pass: admission in the queue's order, gangs, what the blocked head holds, victims spared.

`scheduling.plan` puts them together; `aftermath` applies them to what a plan leaves behind.
"""
