"""HTTP in, HTTP out, and the composition root.

Belongs here: routes, wire schemas, the table from rejections to HTTP, settings (the only
reader of the environment), the command line and the code that starts the whole stack.
Does not belong here: rules about seats, SQL, driver calls.
"""
