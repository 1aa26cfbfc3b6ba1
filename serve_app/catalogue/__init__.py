"""Filling the catalogue: files in, plans and shows out, and the demo."""
