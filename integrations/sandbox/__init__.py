"""A payment provider of our own: Stripe's and Razorpay's HTTP, spoken to unmodified clients.

As a program: ``python -m integrations.sandbox --port 0``; it prints its URLs as one line of JSON.
In a test: ``with running_sandbox() as sandbox:`` of ``tests/support/sandbox.py``; then
``StripeClient(sandbox.secret_key, base_addresses={"api": sandbox.stripe_url})`` and
``razorpay.Client(auth=sandbox.razorpay_auth, base_url=sandbox.razorpay_url)``.

Belongs here: what the providers answer, their webhooks, their faults, the books a test compares.
Does not belong here: what we think of the answers (``integrations/payments``).
"""
