"""The two pages that Stripe shows to customers: paying a Checkout Session, and a challenge.

They are as plain as can be: a person or a browser in a test sees what is asked, and two buttons.
"""

from __future__ import annotations

import html
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from integrations.sandbox.http_call import (
    Answer,
    Call,
    Receive,
    Scope,
    Send,
    read_call,
    send_answer,
)
from integrations.sandbox.state import Journal
from integrations.sandbox.stripe_amounts import written_amount
from integrations.sandbox.stripe_api import StripeApi
from integrations.sandbox.stripe_errors import StripeRefusal
from integrations.sandbox.stripe_objects import Intent, Session

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:28rem;margin:3rem auto;padding:0 1rem}"
    "table{width:100%;border-collapse:collapse}td:last-child{text-align:right}"
    "input{font:inherit;width:100%;padding:.5rem;box-sizing:border-box}"
    "button{font:inherit;padding:.6rem 1.2rem;margin:1rem .5rem 0 0}"
    ".error{color:#a00}.note{color:#555}"
)


class StripePages:
    """Answers customers' browsers, and does what they decide."""

    def __init__(self, stripe: StripeApi, journal: Journal) -> None:
        self._stripe = stripe
        self._journal = journal

    def answer_challenge(self, intent: Intent, *, passes: bool) -> None:
        """The customer proved who he is, or did not.

        Raises:
            StripeRefusal: nobody asked him.
        """
        if intent.status != "requires_action":
            raise StripeRefusal(400, "invalid_request_error", f"The intent is {intent.status}.")
        self._stripe.charging.answer_challenge(intent, passes=passes)
        if intent.session is not None:
            self._stripe.checkout.follow(self._stripe.checkout.find(intent.session), intent)

    def show_challenge(self, call: Call) -> Answer:
        """``/challenge/{id}``: the bank's page."""
        intent = self._stripe.intents.find(call.ids["id"])
        shown = dict(parse_qsl(call.query))
        self._stripe.intents.check_secret(intent, shown.get("client_secret"))
        if call.method == "GET":
            amount = html.escape(written_amount(intent.amount, intent.currency))
            return _page(
                "Is it you?",
                f"<p>Your bank asks whether you want to pay {amount}.</p>"
                '<form method="post"><button name="passes" value="yes">Yes, pay</button>'
                '<button name="passes" value="no">No</button></form>',
            )
        pressed = dict(parse_qsl(call.body.decode("utf-8", "replace")))
        self.answer_challenge(intent, passes=pressed.get("passes") == "yes")
        return self._after_challenge(intent)

    def _after_challenge(self, intent: Intent) -> Answer:
        has_passed = intent.status in ("succeeded", "requires_capture", "processing")
        if intent.session is not None:
            session = self._stripe.checkout.find(intent.session)
            return _see(_after_paying(session) if has_passed else session.url)
        if intent.return_url is None:
            return _page("Done", "<p>You may close this page.</p>")
        added = {
            "payment_intent": intent.id,
            "payment_intent_client_secret": intent.client_secret,
            "redirect_status": "succeeded" if has_passed else "failed",
        }
        return _see(_with_query(intent.return_url, added))

    def show_session(self, call: Call) -> Answer:
        """``/checkout/{id}``: the page where a session is paid."""
        session = self._stripe.checkout.find(call.ids["id"])
        if session.status != "open":
            return _page("Too late", "<p>This page has been paid, or its time is over.</p>")
        if call.method == "GET":
            return _page("Pay", _session_form(session, ""))
        form = dict(parse_qsl(call.body.decode("utf-8", "replace")))
        data: dict[str, Any] = {"type": "card", "card": {"number": form.get("number", "")}}
        try:
            intent = self._stripe.checkout.pay(session, {"payment_method_data": data})
        except StripeRefusal as refusal:
            return _page("Pay", _session_form(session, refusal.message))
        if intent.status == "requires_action" and intent.next_action is not None:
            return _see(intent.next_action["use_stripe_sdk"]["stripe_js"])
        return _see(_after_paying(session))

    def operations(self) -> list[tuple[str, str, Any]]:
        """Method, path and application of each."""
        return [
            (method, path, _Page(self, show, self._journal))
            for path, show in (
                ("/challenge/{id}", self.show_challenge),
                ("/checkout/{id}", self.show_session),
            )
            for method in ("GET", "POST")
        ]


class _Page:
    def __init__(self, pages: StripePages, show: Any, journal: Journal) -> None:
        self._show = show
        self._journal = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = await read_call(scope, receive)
        if call is None:
            return
        try:
            answer = self._show(call)
        except StripeRefusal as refusal:
            answer = _page("Not possible", f"<p>{html.escape(refusal.message)}</p>", refusal.status)
        self._journal.commit()
        await send_answer(answer, send)


def _session_form(session: Session, error: str) -> str:
    rows = "".join(
        f"<tr><td>{line['quantity']} × {html.escape(line['name'])}</td><td>"
        f"{html.escape(written_amount(line['unit_amount'] * line['quantity'], session.currency))}"
        "</td></tr>"
        for line in session.lines
    )
    total = html.escape(written_amount(session.amount_total, session.currency))
    said = f'<p class="error" role="alert">{html.escape(error)}</p>' if error else ""
    leave = ""
    if session.cancel_url:
        leave = f'<p><a href="{html.escape(session.cancel_url)}">Leave without paying</a></p>'
    return (
        f"<table>{rows}<tr><td>Total</td><td>{total}</td></tr></table>{said}"
        '<form method="post"><label>Card number<input name="number" inputmode="numeric" '
        f'autocomplete="off" value="4242 4242 4242 4242"></label>'
        f"<button>Pay {total}</button></form>"
        f'{leave}<p class="note">This is the sandbox: no card is charged.</p>'
    )


def _page(title: str, content: str, status: int = 200) -> Answer:
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{content}"
    )
    headers = (("Content-Type", "text/html; charset=utf-8"), ("Cache-Control", "no-store"))
    return Answer(status, text.encode(), headers)


def _see(url: str) -> Answer:
    return Answer(303, b"", (("Location", url), ("Cache-Control", "no-store")))


def _after_paying(session: Session) -> str:
    return session.success_url.replace("{CHECKOUT_SESSION_ID}", session.id)


def _with_query(url: str, added: dict[str, str]) -> str:
    parts = urlsplit(url)
    query = urlencode([*parse_qsl(parts.query), *added.items()])
    return urlunsplit(parts._replace(query=query))
