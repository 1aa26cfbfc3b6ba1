"""Everything Housefull stores, and the only room that speaks to Postgres and Redis.

Belongs here: the journal, the catalogue, migrations, shards, the embedded servers.
Does not belong here: decisions about seats (``reservation``), actors, HTTP.
SQL lives in ``sql/``; Python here sends it and translates the answers.
"""
