"""The guide's pipeline, by its older path: it is `modelrouter.dspy.pipeline`."""

from .dspy.pipeline import *  # noqa: F403 - all that it has
