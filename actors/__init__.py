"""Who is alive, and in what order they talk.

The call graph has no circles: refs -> show actors -> journal; the supervisor -> refs;
watchdogs -> nobody. No actor awaits one above it.

A Ray async actor is re-entrant: it serialises nothing across an ``await``. That is why
a show decides and applies in one event-loop step and only then waits for the journal.

Everything is a plain class that does not know Ray, except ``activation`` (show actors) and
``supervision`` (supervisor, watchdogs): ``ray.remote`` is applied there and Ray's exceptions
are translated there.
"""
