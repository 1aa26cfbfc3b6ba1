"""HTTP in, HTTP out, and the composition root.

Rooms inside, imports from left to right: the command line and ``settings`` (the only reader of
the environment), ``house`` (starts and stops everything), ``hosting`` (the applications on Ray
Serve), ``api`` (routes, wire schemas, the table from rejections to HTTP). ``catalogue`` fills the
catalogue from files.
Does not belong here: rules about seats, SQL, driver calls.
"""
