"""The rules of selling seats, and nothing else.

Belongs here: what a show, a seat, a hold and a booking are, which command is allowed when,
what it costs, which seats are offered. Everything is a function of its arguments.

Does not belong here: I/O, clocks, randomness, frameworks, threads. Times and ids come in
as arguments, so that a test, a simulator and a replay decide exactly as production did.

*Reservation* is the name of the room. The things in it are called hold and booking.
"""
