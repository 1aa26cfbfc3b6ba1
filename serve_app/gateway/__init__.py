"""The house's only public socket: HAProxy with TLS in front of Serve, its text and its process.

Knows problems (what an error looks like) and nothing else of the applications behind it.
"""
