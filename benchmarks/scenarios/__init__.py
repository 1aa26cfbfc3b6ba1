"""One module a scenario: ``run(bench) -> ScenarioResult``; its docstring begins with what it is.

A module is found by its name; nothing registers it. It asks ``bench.grounds`` for what it stands
on, outside of an event loop, measures in rounds that are interleaved, and audits what it sold.
"""

ORDER = (
    "engine_hot_show",
    "train_legs",
    "contention",
    "activation",
    "failover",
    "pause_fault",
    "http_no_op",
    "http_hot_show",
    "long_tail",
    "browse_storm",
    "slowloris",
    "login_flood",
    "checkout",
)
"""Of those that a run without names measures: below HTTP first, so that Ray starts twice only."""
