"""Who may come in: signing keys, access tokens, passwords. Knows no HTTP application."""
