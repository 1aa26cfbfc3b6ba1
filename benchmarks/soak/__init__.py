"""Random faults under load: nothing is sold twice, nothing acknowledged lost, nothing left open.

ground    what runs: a house below HTTP, or a whole one, with a bad line to its Postgres
clients   processes that hold, pay, let go and cancel, and record all they are told
faults    what is done to the house, and the proof that it happened
report    what the checker, the auditor and the records say in the end
"""
