"""Everything that checks the product; nothing here is shipped."""
