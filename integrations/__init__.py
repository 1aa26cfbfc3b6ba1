"""Other people's services: payment providers, brokers, mail and SMS.

Belongs here: one port per kind of service and its implementations.
Does not belong here: what we store (``persistence``) or when a service is called (``actors``).
"""
