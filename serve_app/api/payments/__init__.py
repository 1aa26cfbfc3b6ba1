"""Payments over HTTP: what a customer sees of his, and what providers tell the house.

How a payment starts is the booking application's (``booking_checkout``); what becomes of it is the
payment actor's. Nothing here moves money.
"""
