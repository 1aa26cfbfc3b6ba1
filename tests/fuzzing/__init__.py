"""Requests that no client would send, to every application, held against their descriptions.

``scripts/fuzz`` does it for as long as one wants; the default suite does it at a small scale.
"""
