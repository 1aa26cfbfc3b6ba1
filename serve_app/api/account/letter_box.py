"""Letters with codes: who gets which, and what the codes are for.

What follows a request here runs in the background (``post_office``), so it may look for accounts
without its time telling anybody anything.
"""

from __future__ import annotations

import logging

from integrations.mail.letters import (
    known_address_letter,
    password_changed_letter,
    reset_letter,
    verification_letter,
)
from integrations.mail.mailbox import Letter
from persistence.account_registry import AccountRow, AccountState
from persistence.mailed_tokens import TokenKind
from reservation.faults import NotDone
from serve_app.api.account.codes import digest_of, new_code
from serve_app.api.account.desk import AccountDesk

log = logging.getLogger(__name__)

HOUR_MS = 3_600_000
VERIFICATION_LIFE_H = 24
RESET_LIFE_H = 1
"""Short: until then, whoever reads the letter can take the account over."""

_VERIFY_PAGE = "verify-email"
_RESET_PAGE = "reset-password"


class LetterBox:
    """Posts letters. The methods with an address return at once and find out later who that is.

    Raises:
        NotDone: too many letters wait.
    """

    def __init__(self, desk: AccountDesk) -> None:
        self._desk = desk

    def post_after_sign_up(self, email: str, *, is_new: bool) -> None:
        """To whoever owns the address that somebody signed up with."""

        async def errand() -> Letter | None:
            account = await self._find_active(email)
            if account is None:
                return None
            if is_new:
                return await self._verification(account)
            code, link = await self._reset_code(account)
            return known_address_letter(account.email, link, code, RESET_LIFE_H)

        self._desk.post_office.post(errand)

    def post_verification(self, email: str) -> None:
        """Another letter for an address that is not confirmed yet."""

        async def errand() -> Letter | None:
            account = await self._find_active(email)
            if account is None or account.email_verified_at_ms is not None:
                return None
            return await self._verification(account)

        self._desk.post_office.post(errand)

    def post_reset(self, email: str) -> None:
        """A letter for somebody who has forgotten a password."""

        async def errand() -> Letter | None:
            account = await self._find_active(email)
            if account is None:
                return None
            code, link = await self._reset_code(account)
            return reset_letter(account.email, link, code, RESET_LIFE_H)

        self._desk.post_office.post(errand)

    def post_password_changed(self, email: str) -> None:
        """To the owner of an account whose password is another one now. Never raises."""

        async def errand() -> Letter:
            return password_changed_letter(email)

        try:
            self._desk.post_office.post(errand)
        except NotDone:
            # The password is another one; that this could not be told does not undo it.
            log.warning("a letter about a changed password is dropped: too many wait")

    async def _find_active(self, email: str) -> AccountRow | None:
        account = await self._desk.accounts.find_by_email(email)
        if account is None or account.state is not AccountState.ACTIVE:
            return None
        return account

    async def _verification(self, account: AccountRow) -> Letter:
        code = await self._put_code(TokenKind.VERIFY_EMAIL, account, VERIFICATION_LIFE_H)
        link = self._link(_VERIFY_PAGE, code)
        return verification_letter(account.email, link, code, VERIFICATION_LIFE_H)

    async def _reset_code(self, account: AccountRow) -> tuple[str, str | None]:
        code = await self._put_code(TokenKind.RESET_PASSWORD, account, RESET_LIFE_H)
        return code, self._link(_RESET_PAGE, code)

    async def _put_code(self, kind: TokenKind, account: AccountRow, lasts_h: int) -> str:
        code = new_code()
        expires_at_ms = self._desk.now_ms() + lasts_h * HOUR_MS
        await self._desk.accounts.put_token(
            kind, account.account_id, digest_of(code), expires_at_ms
        )
        return code

    def _link(self, page: str, code: str) -> str | None:
        # Behind the #, which browsers keep to themselves: no log of any server has the code.
        site_url = self._desk.site_url
        return None if site_url is None else f"{site_url}/{page}#code={code}"
