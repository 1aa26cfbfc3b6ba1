"""Files of named statements: what is read, and which mistakes are named by file and line."""

import pytest

from persistence.queries import QueryFileError, load_queries, parse_queries


def test_statements_are_found_by_name_without_their_comments() -> None:
    text = (
        "-- A file about nothing.\n\n"
        "-- name: first\n-- The first one.\n-- It has two sentences.\nSELECT 1;\n\n"
        "-- name: second\n-- The second one.\nSELECT 2\n  -- inside\n  AS two;\n"
    )
    assert parse_queries(text, "x.sql") == {
        "first": "SELECT 1",
        "second": "SELECT 2\n  -- inside\n  AS two",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- name: a\n-- One.\nSELECT 1;\n-- name: a\n-- Two.\nSELECT 2;", "x.sql:4: a is there"),
        ("-- name: a\n-- One.\n\n-- name: b\n-- Two.\nSELECT 2;", "x.sql:1: a is empty"),
        ("-- name: a\n-- One.\n;\n", "x.sql:1: a is empty"),
        ("-- name: a\nSELECT 1;", "x.sql:1: a has no sentence"),
        ("-- name: a", "x.sql:1: a has no sentence"),
        ("-- name: a b\n-- One.\nSELECT 1;", "x.sql:1: 'a b' is not a name"),
        ("-- name:\n-- One.\nSELECT 1;", "x.sql:1: '' is not a name"),
        ("\nSELECT 1;\n-- name: a\n-- One.\nSELECT 1;", "x.sql:2: a statement without a name"),
    ],
)
def test_a_mistake_is_named_by_file_and_line(text: str, message: str) -> None:
    with pytest.raises(QueryFileError) as caught:
        parse_queries(text, "x.sql")
    assert str(caught.value).startswith(message)


def test_the_catalogue_has_its_statements() -> None:
    queries = load_queries("catalogue.sql")
    assert {"find_show", "list_rides", "put_shows"} <= queries.keys()
    assert all(
        statement.split()[0] in {"SELECT", "INSERT", "UPDATE", "WITH"}
        for statement in queries.values()
    )


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        load_queries("nothing.sql")
