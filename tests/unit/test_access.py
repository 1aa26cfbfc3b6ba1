"""Roles, tenants, and the ids that are drawn."""

from __future__ import annotations

import pytest

from persistence.account_fields import checked_email, email_key_of
from persistence.new_ids import new_id
from reservation.access import HOUSE_TENANT, TENANT_ROLES, Role, fits_tenant, key_roles_of
from reservation.ids import (
    ALPHABET,
    is_account_id,
    is_api_key_id,
    is_session_id,
    is_tenant_id,
)

CHECKS = {
    "acc_": is_account_id,
    "tnt_": is_tenant_id,
    "ses_": is_session_id,
    "key_": is_api_key_id,
}


@pytest.mark.parametrize("prefix", CHECKS)
def test_a_drawn_id_has_the_form_of_its_kind_and_of_no_other(prefix: str) -> None:
    drawn = new_id(prefix)
    assert [kind for kind, check in CHECKS.items() if check(drawn)] == [prefix]
    for wrong in (drawn[:-1], drawn + "0", drawn.upper(), f"{drawn}\n", f" {drawn}", "", prefix):
        assert not CHECKS[prefix](wrong)
    for letter in "iloué":
        assert not CHECKS[prefix](drawn[:-1] + letter)


def test_ten_thousand_drawn_ids_are_different_and_use_every_letter() -> None:
    drawn = {new_id("acc_") for _ in range(10_000)}
    assert len(drawn) == 10_000
    assert {letter for account_id in drawn for letter in account_id[4:]} == set(ALPHABET)


def test_the_house_is_a_tenant() -> None:
    assert is_tenant_id(HOUSE_TENANT)


@pytest.mark.parametrize("role", list(Role))
def test_a_role_belongs_to_a_tenant_or_it_does_not(role: Role) -> None:
    assert fits_tenant(role, HOUSE_TENANT) == (role in TENANT_ROLES)
    assert fits_tenant(role, None) == (role not in TENANT_ROLES)


def test_nobody_gets_above_a_role_by_keys_of_keys() -> None:
    for role in Role:
        assert role in key_roles_of(role)
        assert Role.CUSTOMER in key_roles_of(role)
        for key_role in key_roles_of(role):
            assert key_roles_of(key_role) <= key_roles_of(role)
    for role in set(Role) - {Role.ADMIN}:
        assert Role.ADMIN not in key_roles_of(role)
    for role in (Role.CUSTOMER, Role.GATE, Role.BOX_OFFICE):
        assert Role.ORGANISER not in key_roles_of(role)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Ann@Example.com", "ANN@EXAMPLE.COM"),
        ("\u017dofie@x.cz", "z\u030cOFIE@x.cz"),
        ("stra\u00dfe@x.de", "STRASSE@x.de"),
        ("\uff41@x.cz", "A@x.cz"),
        ("\u01f0@x.cz", "J\u030c@x.cz"),
        ("  a@x.cz\t", "a@x.cz"),
    ],
)
def test_two_spellings_of_one_address_have_one_key(left: str, right: str) -> None:
    assert email_key_of(left) == email_key_of(right)
    # A key is its own key, or an account could not be found by what is stored.
    assert email_key_of(email_key_of(left)) == email_key_of(left)


def test_other_letters_are_other_addresses() -> None:
    spellings = ["ann@x.cz", "ánn@x.cz", "аnn@x.cz", "a.nn@x.cz", "ann+1@x.cz", "ann@x.cz."]
    assert len({email_key_of(spelling) for spelling in spellings}) == len(spellings)


def test_an_address_is_checked_without_being_changed() -> None:
    assert checked_email(" Ann@X.cz ") == " Ann@X.cz "
