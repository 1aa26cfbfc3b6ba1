"""The account application: signing up, logging in, API keys, roles, and the keys of tokens."""
