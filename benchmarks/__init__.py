"""Measurements: ``scripts/bench``. Ours against the usual ways, on grounds of our own.

    contenders/   the ways to sell seats, behind one protocol, and over HTTP
    load/         asking as fast as answers come, or at a rate
    scenarios/    what is measured; one module each
    report/       tables, JSON, the ladder, one HTML page

The other modules are what scenarios stand on (``grounds``, ``below_http``, ``over_http``, houses,
``audit``), and measurements of single things with options of their own (``best_available``, ...).
The product never imports this.
"""
