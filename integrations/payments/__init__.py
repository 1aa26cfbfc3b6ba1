"""Payment providers: what taking and giving back money through others takes.

Here belong the port and each provider's gateway and webhooks. What is done with the money belongs
to ``reservation/checkout_saga.py``; running it, to ``actors/``.
"""
