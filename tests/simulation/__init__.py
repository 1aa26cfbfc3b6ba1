"""The simulator: shipped core, actor, ref and journal over a model of everything else.

Here belong the model of time, processes, network and database, the stories that are played on
it, what must always hold, and the planted bugs that prove that the checks see something. Nothing
here may decide what the product decides; that is run as it is shipped. See docs/TESTING.md.
"""
