"""Letters to customers: what they say, and the mailboxes that carry them.

Belongs here: the port ``Mailbox``, its implementations, the texts.
Does not belong here: who gets a letter, and what happens when one cannot be sent (``serve_app``).
"""
