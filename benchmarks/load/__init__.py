"""Asking at a rate or as fast as answers come, and saying how long the answers took.

Nothing here knows what is asked for. Requests are prepared before a clock starts; the clients
share a process and an event loop, and what they cost is part of what is measured.
"""
