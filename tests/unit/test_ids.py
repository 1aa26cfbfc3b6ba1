"""Ids: the same every time, different for different things, and enough to route by."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservation.ids import (
    LOGICAL_SHARD_COUNT,
    BookingId,
    CustomerId,
    HoldId,
    ShowId,
    booking_id_of,
    derive_hold_id,
    derive_show_id,
    hold_id_of,
    is_booking_id,
    is_hold_id,
    is_show_id,
    logical_shard_of,
    show_id_of,
)

CHECKOUT = Path(__file__).resolve().parents[2]
SHOW = derive_show_id("gtfs:CR:1045:2026-12-01")
ANN = CustomerId("cus_ann")
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def test_ids_never_change_between_versions() -> None:
    # They are stored: another way to derive them would lose every show and every repetition.
    assert SHOW == "shw_x6pe28qzn23yfyfd"
    assert derive_hold_id(SHOW, ANN, "key-1") == "hld_x6pe28qzn23yfyfdt6y9t85sgbtwrz4j"
    assert logical_shard_of(SHOW) == 934


def test_ids_are_the_same_in_another_process() -> None:
    code = "from reservation.ids import *; print(derive_show_id('Hamlet №1'))"
    answers = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    }
    assert answers == {derive_show_id("Hamlet №1")}


@given(st.text(min_size=1), st.text(st.characters(exclude_characters="\0"), min_size=1), st.text())
def test_every_derived_id_has_its_form_and_leads_back_to_its_show(
    source_key: str, customer: str, key: str
) -> None:
    show_id = derive_show_id(_encodable(source_key))
    hold_id = derive_hold_id(show_id, CustomerId(_encodable(customer)), _encodable(key))
    booking_id = booking_id_of(hold_id)
    assert is_show_id(show_id)
    assert is_hold_id(hold_id)
    assert is_booking_id(booking_id)
    assert hold_id_of(booking_id) == hold_id
    assert show_id_of(hold_id) == show_id_of(booking_id) == show_id
    assert 0 <= logical_shard_of(show_id) < LOGICAL_SHARD_COUNT
    # All holds of a show are one range of ids, which the database relies on.
    assert f"hld_{show_id[4:]}" < hold_id < f"hld_{show_id[4:]}~"


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def test_customer_key_and_show_each_make_another_hold() -> None:
    other_show = derive_show_id("another")
    ids = {
        derive_hold_id(show, CustomerId(customer), key)
        for show in (SHOW, other_show)
        for customer in ("a", "ab", "")
        for key in ("b", "", "bb")
    }
    assert len(ids) == 18


def test_ten_thousand_ids_are_different_and_spread_over_all_shards() -> None:
    shows = [derive_show_id(f"show {number}") for number in range(10_000)]
    assert len(set(shows)) == len(shows)
    assert {logical_shard_of(show_id) for show_id in shows} == set(range(LOGICAL_SHARD_COUNT))


def test_the_shard_is_the_first_two_letters_in_base_32() -> None:
    assert logical_shard_of(ShowId("shw_" + "0" * 16)) == 0
    assert logical_shard_of(ShowId("shw_10" + "0" * 14)) == 32
    assert logical_shard_of(ShowId("shw_01" + "z" * 14)) == 1
    assert logical_shard_of(ShowId("shw_" + "z" * 16)) == LOGICAL_SHARD_COUNT - 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shw_",
        "shw_" + "0" * 15,
        "shw_" + "0" * 17,
        "SHW_" + "0" * 16,
        "shw_" + "i" * 16,
        "shw_" + "A" * 16,
        "shw_" + "0" * 15 + "\n",
        "shw_" + "0" * 16 + "\n",
        "shw_" + "٠" * 16,
        "hld_" + "0" * 16,
        "shw_" + "0" * 32,
    ],
)
def test_what_is_not_a_show_id_is_recognised(text: str) -> None:
    assert not is_show_id(text)


@pytest.mark.parametrize("letter", "ilou")
def test_letters_that_look_like_others_are_not_used(letter: str) -> None:
    assert letter not in ALPHABET
    assert not is_hold_id("hld_" + letter * 32)
    assert not is_booking_id("bkg_" + letter * 32)


def test_hold_and_booking_ids_are_not_taken_for_each_other() -> None:
    hold_id, booking_id = HoldId("hld_" + "0" * 32), BookingId("bkg_" + "0" * 32)
    assert is_hold_id(hold_id)
    assert not is_hold_id(booking_id)
    assert is_booking_id(booking_id)
    assert not is_booking_id(hold_id)
    assert not is_hold_id("hld_" + "0" * 16)
