"""The applications on Ray Serve: what a replica opens, is given, and runs."""
