"""The organiser application: what a tenant's own people do with venues, plans, shows and sales.

A file for each noun, with its routes; ``application`` puts them together. What the routes say
about themselves stands in ``*_document`` and ``*_schemas``. Selling is not here: that is the
booking application's, and everything that changes a show on sale goes through the show's actor.
"""
