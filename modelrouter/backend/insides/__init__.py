"""All that leans on what LiteLLM does not promise, in one place: each is worth a large part of what a call costs.

`way` says whether it is used. What is leant on is looked at once, when LiteLLM is loaded; where it is not as it was,
LiteLLM's plain call is made instead.
"""
