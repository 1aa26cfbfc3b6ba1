"""Measurements that decide things; nothing in the product imports this room."""
