"""The shapes of `seat_claim` that `benchmarks.claim_shapes` compares, as SQL.

Every shape is a table and the body of one plpgsql function. The function is the only writer; a call
is a transaction. Errors: HF001 the writer is fenced; HF002 a hold to end is not held, or its claims
are not there; HF003, 23505 or 23P01 a claim overlaps another one.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

COMMON_TABLES = """
CREATE TABLE show_owner (show_id bigint PRIMARY KEY, epoch bigint NOT NULL, seq bigint NOT NULL,
  legs int NOT NULL) WITH (fillfactor = 50);
CREATE TABLE hold (hold_id uuid PRIMARY KEY, show_id bigint NOT NULL, customer text NOT NULL,
  seats int[] NOT NULL, leg_from int NOT NULL, leg_to int NOT NULL, state text NOT NULL,
  expires_at_ms bigint NOT NULL, seq bigint NOT NULL, CHECK (0 <= leg_from AND leg_from < leg_to));
CREATE INDEX hold_live ON hold (show_id) WHERE state IN ('held', 'booked');
CREATE TABLE journal (show_id bigint, seq bigint, epoch bigint NOT NULL, events {journal} NOT NULL,
  PRIMARY KEY (show_id, seq));
CREATE FUNCTION leg_mask(leg_from int, leg_to int, word int) RETURNS bigint IMMUTABLE PARALLEL SAFE
  RETURN ((1::bigint << (least(leg_to, word * 62 + 62) - greatest(leg_from, word * 62))) - 1)
         << (greatest(leg_from, word * 62) - word * 62);
"""

APPEND = """
CREATE FUNCTION append_batch(p_show bigint, p_epoch bigint, p_seq bigint, {parameters}) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE v_batch jsonb := {batch}; v_legs int; v_ones varbit; v_zeros varbit; v_row record;
  v_asked bigint; v_done bigint; v_ended bigint; v_disjoint boolean;
BEGIN
  UPDATE show_owner SET seq = p_seq WHERE show_id = p_show AND epoch = p_epoch AND seq = p_seq - 1
    RETURNING legs INTO v_legs;
  IF NOT FOUND THEN RAISE EXCEPTION 'fenced' USING ERRCODE = 'HF001'; END IF;
  {body}
  INSERT INTO journal (show_id, seq, epoch, events) VALUES (p_show, p_seq, p_epoch, p_events);
END $$;
"""

# Ends holds that are still held; `{ended}` and `{held}` become the row source of the encoding.
ENDED = """ended AS (
    UPDATE hold h SET state = r.state FROM {ended}
    WHERE h.hold_id = r.hold_id AND h.show_id = p_show AND h.state = 'held'
    RETURNING h.hold_id, h.seats, h.leg_from, h.leg_to)"""
HELD = """held AS MATERIALIZED (SELECT * FROM {held}),
  stored AS (INSERT INTO hold (hold_id, show_id, customer, seats, leg_from, leg_to, state,
      expires_at_ms, seq)
    SELECT hold_id, p_show, customer, seats, leg_from, leg_to, 'held', expires_at_ms, p_seq
    FROM held)"""
ENDS_DIFFER = """IF v_done <> v_asked OR v_ended <> {ended_count} THEN
    RAISE EXCEPTION 'ended % holds and % of % claims', v_ended, v_done, v_asked
      USING ERRCODE = 'HF002'; END IF;"""
CLAIMS_DIFFER = """IF v_done <> v_asked OR NOT v_disjoint THEN
    RAISE EXCEPTION 'claimed % of %', v_done, v_asked USING ERRCODE = 'HF003'; END IF;"""

ROWS_BODY = f"""
  WITH {ENDED},
  freed AS (DELETE FROM seat_claim c USING ended e, unnest(e.seats) AS s(seat_index)
    WHERE c.show_id = p_show AND c.seat_index = s.seat_index AND c.leg >= e.leg_from
      AND c.leg < e.leg_to AND c.hold_id = e.hold_id RETURNING 1)
  SELECT count(*), sum(cardinality(seats) * (leg_to - leg_from)), (SELECT count(*) FROM freed)
    INTO v_ended, v_asked, v_done FROM ended;
  {ENDS_DIFFER}
  WITH {HELD}
  INSERT INTO seat_claim (show_id, seat_index, leg, hold_id)
    SELECT p_show, s.seat_index, l.leg, h.hold_id
    FROM held h, unnest(h.seats) AS s(seat_index),
      generate_series(h.leg_from, h.leg_to - 1) AS l(leg);
"""

RANGE_BODY = f"""
  WITH {ENDED},
  freed AS (DELETE FROM seat_claim c USING ended e, unnest(e.seats) AS s(seat_index)
    WHERE c.show_id = p_show AND c.seat_index = s.seat_index
      AND c.legs = int4range(e.leg_from, e.leg_to) AND c.hold_id = e.hold_id RETURNING 1)
  SELECT count(*), sum(cardinality(seats)), (SELECT count(*) FROM freed)
    INTO v_ended, v_asked, v_done FROM ended;
  {ENDS_DIFFER}
  WITH {HELD}
  INSERT INTO seat_claim (show_id, seat_index, legs, hold_id)
    SELECT p_show, s.seat_index, int4range(h.leg_from, h.leg_to), h.hold_id
    FROM held h, unnest(h.seats) AS s(seat_index);
"""

BIT_MASK = "(v_ones << (v_legs - (x.leg_to - x.leg_from))) >> x.leg_from"
BITS_RELEASE = f"""
  v_zeros := repeat('0', v_legs)::varbit;
  v_ones := ~v_zeros;
  WITH {ENDED},
  mask AS MATERIALIZED (SELECT s.seat_index, bit_or({BIT_MASK}) AS mask
    FROM ended x, unnest(x.seats) AS s(seat_index) GROUP BY 1),
  freed AS (UPDATE seat_claim c SET taken = c.taken & ~m.mask FROM mask m
    WHERE c.show_id = p_show AND c.seat_index = m.seat_index AND (c.taken & m.mask) = m.mask
    RETURNING 1)
  SELECT (SELECT count(*) FROM ended), (SELECT count(*) FROM mask), (SELECT count(*) FROM freed)
    INTO v_ended, v_asked, v_done;
  {ENDS_DIFFER}
"""
# Fewer bits than legs: two claims of the batch overlap, or a segment leaves the route.
BITS_WANTED = f"""WITH {HELD},
  mask AS MATERIALIZED (
    SELECT s.seat_index, bit_or({BIT_MASK}) AS mask, sum(x.leg_to - x.leg_from) AS leg_count
    FROM held x, unnest(x.seats) AS s(seat_index) GROUP BY 1)"""
BITS_COUNTED = f"""SELECT count(*), bool_and(bit_count(mask) = leg_count),
      (SELECT count(*) FROM claimed) INTO v_asked, v_disjoint, v_done FROM mask;
  {CLAIMS_DIFFER}"""
BITS_BODY = f"""{BITS_RELEASE}
  {BITS_WANTED},
  claimed AS (INSERT INTO seat_claim AS c (show_id, seat_index, taken)
    SELECT p_show, seat_index, mask FROM mask
    ON CONFLICT (show_id, seat_index) DO UPDATE SET taken = c.taken | EXCLUDED.taken
      WHERE (c.taken & EXCLUDED.taken) = v_zeros RETURNING 1)
  {BITS_COUNTED}
"""
BITS_UPDATE_BODY = f"""{BITS_RELEASE}
  {BITS_WANTED},
  claimed AS (UPDATE seat_claim c SET taken = c.taken | m.mask FROM mask m
    WHERE c.show_id = p_show AND c.seat_index = m.seat_index AND (c.taken & m.mask) = v_zeros
    RETURNING 1)
  {BITS_COUNTED}
"""
# The control twin: claims nothing, so it must fail the proof that the others pass.
NO_CLAIMS_BODY = f"""
  WITH {ENDED} SELECT count(*) INTO v_ended FROM ended;
  WITH {HELD} SELECT count(*) INTO v_done FROM held;
"""

WORD_MASKS = """SELECT s.seat_index, w.word, leg_mask(x.leg_from, x.leg_to, w.word) AS mask
    FROM {source} x, unnest(x.seats) AS s(seat_index),
      generate_series(x.leg_from / 62, (x.leg_to - 1) / 62) AS w(word)"""
# A sum of masks equals their union exactly when no two of them share a bit.
WORDS_WANTED = f"""mask AS MATERIALIZED (
    SELECT m.seat_index, m.word, bit_or(m.mask) AS mask, sum(m.mask) = bit_or(m.mask) AS disjoint
    FROM ({WORD_MASKS}) m GROUP BY 1, 2)"""
WORDS_RELEASE = f"""
  WITH {ENDED},
  {WORDS_WANTED.replace("{source}", "ended")},
  freed AS (UPDATE seat_claim c SET taken = c.taken & ~m.mask FROM mask m
    WHERE c.show_id = p_show AND c.seat_index = m.seat_index AND c.word = m.word
      AND (c.taken & m.mask) = m.mask RETURNING 1)
  SELECT (SELECT count(*) FROM ended), (SELECT count(*) FROM mask), (SELECT count(*) FROM freed)
    INTO v_ended, v_asked, v_done;
  {ENDS_DIFFER}
"""
WORDS_UPSERT_BODY = f"""{WORDS_RELEASE}
  WITH {HELD},
  {WORDS_WANTED.replace("{source}", "held")},
  claimed AS (INSERT INTO seat_claim AS c (show_id, seat_index, word, taken)
    SELECT p_show, seat_index, word, mask FROM mask
    ON CONFLICT (show_id, seat_index, word) DO UPDATE SET taken = c.taken | EXCLUDED.taken
      WHERE (c.taken & EXCLUDED.taken) = 0 RETURNING 1)
  SELECT count(*), bool_and(disjoint), (SELECT count(*) FROM claimed)
    INTO v_asked, v_disjoint, v_done FROM mask;
  {CLAIMS_DIFFER}
"""
# One statement per claim: a later claim of the batch sees the earlier ones; nothing is aggregated.
WORDS_LOOP_BODY = f"""
  v_ended := 0;
  FOR v_row IN WITH {ENDED} SELECT m.*, (SELECT count(*) FROM ended) AS ended
    FROM ({WORD_MASKS.replace("{source}", "ended")}) m LOOP
    UPDATE seat_claim SET taken = taken & ~v_row.mask WHERE show_id = p_show
      AND seat_index = v_row.seat_index AND word = v_row.word AND (taken & v_row.mask) = v_row.mask;
    IF NOT FOUND THEN RAISE EXCEPTION 'not claimed' USING ERRCODE = 'HF002'; END IF;
    v_ended := v_row.ended;
  END LOOP;
  IF v_ended <> {{ended_count}} THEN RAISE EXCEPTION 'not held' USING ERRCODE = 'HF002'; END IF;
  FOR v_row IN WITH {HELD} {WORD_MASKS.replace("{source}", "held")} LOOP
    UPDATE seat_claim SET taken = taken | v_row.mask WHERE show_id = p_show
      AND seat_index = v_row.seat_index AND word = v_row.word AND (taken & v_row.mask) = 0;
    IF NOT FOUND THEN
      INSERT INTO seat_claim (show_id, seat_index, word, taken)
        VALUES (p_show, v_row.seat_index, v_row.word, v_row.mask);
    END IF;
  END LOOP;
"""


@dataclass(frozen=True)
class Shape:
    """A way to store claims, with the SQL that ends holds and claims seat-legs in it."""

    what: str
    table: str
    body: str
    claimed_legs: str
    copy_show: str
    publish: str = ""
    wipe: str = "UPDATE seat_claim SET taken = taken # taken"
    knows_route: bool = False


WORDS_TABLE = """CREATE TABLE seat_claim (show_id bigint, seat_index int, word int,
  taken bigint NOT NULL, PRIMARY KEY (show_id, seat_index, word)) WITH (fillfactor = 70)"""
WORDS_CLAIMED = "SELECT sum(bit_count(taken::bit(64))) FROM seat_claim WHERE show_id = $1"
WORDS_COPY = "SELECT n, seat_index, word, taken"
BITS_TABLE = """CREATE TABLE seat_claim (show_id bigint, seat_index int, taken varbit NOT NULL,
  PRIMARY KEY (show_id, seat_index)) WITH (fillfactor = 70)"""
BITS_CLAIMED = "SELECT sum(bit_count(taken)) FROM seat_claim WHERE show_id = $1"
NO_CLAIMS = Shape(
    "no claims at all, the control: what the rest of the statement costs",
    "CREATE TABLE seat_claim (show_id bigint, seat_index int)",
    NO_CLAIMS_BODY,
    """SELECT sum(cardinality(seats) * (leg_to - leg_from)) FROM hold
      WHERE show_id = $1 AND state = 'held'""",
    "SELECT n, seat_index",
)
SHAPES = {
    "A rows": Shape(
        "row per seat-leg, primary key",
        """CREATE TABLE seat_claim (show_id bigint, seat_index int, leg int, hold_id uuid NOT NULL,
          PRIMARY KEY (show_id, seat_index, leg))""",
        ROWS_BODY,
        "SELECT count(*) FROM seat_claim WHERE show_id = $1",
        "SELECT n, seat_index, leg, hold_id",
        wipe="DELETE FROM seat_claim",
    ),
    "B range": Shape(
        "row per seat and hold, EXCLUDE USING gist on int4range",
        """CREATE TABLE seat_claim (show_id bigint, seat_index int, legs int4range,
          hold_id uuid NOT NULL,
          EXCLUDE USING gist (show_id WITH =, seat_index WITH =, legs WITH &&))""",
        RANGE_BODY,
        "SELECT sum(upper(legs) - lower(legs)) FROM seat_claim WHERE show_id = $1",
        "SELECT n, seat_index, legs, hold_id",
        wipe="DELETE FROM seat_claim",
    ),
    "C bits": Shape(
        "row per seat, bit varying, upsert with compare-and-set",
        BITS_TABLE,
        BITS_BODY,
        BITS_CLAIMED,
        "SELECT n, seat_index, taken",
        knows_route=True,
    ),
    "C2 words": Shape(
        "row per seat and word of 62 legs, bigint, upsert with compare-and-set",
        WORDS_TABLE,
        WORDS_UPSERT_BODY,
        WORDS_CLAIMED,
        WORDS_COPY,
    ),
    "C3 made": Shape(
        "as C, all rows made when the show is published, update only",
        BITS_TABLE,
        BITS_UPDATE_BODY,
        BITS_CLAIMED,
        "SELECT n, seat_index, taken",
        """INSERT INTO seat_claim SELECT 1, n, repeat('0', $2)::varbit
          FROM generate_series(0, $1::int - 1) n""",
        knows_route=True,
    ),
    "C4 loop": Shape(
        "as C2, one update or insert per claim in a plpgsql loop",
        WORDS_TABLE,
        WORDS_LOOP_BODY,
        WORDS_CLAIMED,
        WORDS_COPY,
    ),
}


@dataclass(frozen=True)
class Encoding:
    """How the batch reaches the function: its parameters and where SQL reads rows from."""

    parameters: str
    batch: str
    ended: str
    held: str
    ended_count: str
    encode: Callable[[dict[str, Any]], tuple[Any, ...]]


def as_document(batch: dict[str, Any]) -> tuple[Any, ...]:
    """One JSON document: the journal's row and the source of all other rows."""
    return (json.dumps(batch, separators=(",", ":")),)


def as_arrays(batch: dict[str, Any]) -> tuple[Any, ...]:
    """The journal's document, and beside it one typed array per column."""
    ended, held = batch["ended"], batch["held"]
    return (
        *as_document(batch),
        [e["hold_id"] for e in ended],
        [e["state"] for e in ended],
        [h["hold_id"] for h in held],
        [h["customer"] for h in held],
        ["{" + ",".join(map(str, h["seats"])) + "}" for h in held],
        [h["leg_from"] for h in held],
        [h["leg_to"] for h in held],
        [h["expires_at_ms"] for h in held],
    )


ENCODINGS = {
    "recordset": Encoding(
        "p_events {type}",
        "p_events::jsonb",
        "jsonb_to_recordset(v_batch -> 'ended') AS r(hold_id uuid, state text)",
        """jsonb_to_recordset(v_batch -> 'held') AS r(hold_id uuid, customer text, seats int[],
          leg_from int, leg_to int, expires_at_ms bigint)""",
        "jsonb_array_length(v_batch -> 'ended')",
        as_document,
    ),
    "elements": Encoding(
        "p_events {type}",
        "p_events::jsonb",
        """(SELECT (e ->> 'hold_id')::uuid AS hold_id, e ->> 'state' AS state
          FROM jsonb_array_elements(v_batch -> 'ended') AS e) r""",
        """(SELECT (e ->> 'hold_id')::uuid AS hold_id, e ->> 'customer' AS customer,
            ARRAY(SELECT s::int FROM jsonb_array_elements_text(e -> 'seats') s) AS seats,
            (e -> 'leg_from')::int AS leg_from, (e -> 'leg_to')::int AS leg_to,
            (e -> 'expires_at_ms')::bigint AS expires_at_ms
          FROM jsonb_array_elements(v_batch -> 'held') AS e) r""",
        "jsonb_array_length(v_batch -> 'ended')",
        as_document,
    ),
    "arrays": Encoding(
        """p_events {type}, p_ended_id uuid[], p_ended_state text[], p_hold_id uuid[],
          p_customer text[], p_seats text[], p_leg_from int[], p_leg_to int[],
          p_expires_at_ms bigint[]""",
        "NULL",
        "unnest(p_ended_id, p_ended_state) AS r(hold_id, state)",
        """(SELECT hold_id, customer, seats::int[] AS seats, leg_from, leg_to, expires_at_ms
          FROM unnest(p_hold_id, p_customer, p_seats, p_leg_from, p_leg_to, p_expires_at_ms)
            AS u(hold_id, customer, seats, leg_from, leg_to, expires_at_ms)) r""",
        "cardinality(p_ended_id)",
        as_arrays,
    ),
}


def schema_sql(shape: Shape, encoding: Encoding, journal: str = "jsonb") -> str:
    """Tables and function of a shape, for one way to send batches and one journal column."""
    source = {
        "ended": encoding.ended,
        "held": encoding.held,
        "ended_count": encoding.ended_count,
    }
    append = APPEND.format(
        parameters=encoding.parameters.format(type=journal.split()[0]),
        batch=encoding.batch,
        body=shape.body.format(**source),
    )
    return f"{COMMON_TABLES.format(journal=journal)}; {shape.table}; {append}"
