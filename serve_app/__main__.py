"""``python -m serve_app`` is ``housefull``."""

from serve_app.cli import main

main()
