"""Ways to sell seats, behind one protocol: ours, and four that are usual.

Each is written as its best advocate would write it. What all of them promise is in ``contender``
and is tested by one suite for all (tests/contract/test_contenders.py). Who measures them does
not belong here.
"""
