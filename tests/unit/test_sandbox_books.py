"""Whatever is asked in whatever order: the books say what the objects say, to the minor unit."""

from __future__ import annotations

import contextlib

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from integrations.sandbox.app import Sandbox
from integrations.sandbox.razorpay_errors import RazorpayRefusal
from integrations.sandbox.stripe_errors import StripeRefusal

AMOUNTS = st.integers(100, 2_000)
METHODS = st.sampled_from(
    [
        "pm_card_visa",
        "pm_card_chargeDeclined",
        "pm_card_authenticationRequired",
        "pm_card_pendingRefund",
        "pm_card_refundFail",
        "pm_usBankAccount_success",
        "pm_usBankAccount_accountClosed",
    ]
)
PICKS = st.integers(0, 9)


class Books(RuleBasedStateMachine):
    """Plays customers, banks and the house, all of them careless."""

    def __init__(self) -> None:
        super().__init__()
        self.sandbox = Sandbox()
        self.stripe = self.sandbox.stripe
        self.stripe_store = self.sandbox.stripe_store
        self.razorpay = self.sandbox.razorpay
        self.razorpay_store = self.sandbox.razorpay_store

    def an_intent(self, pick: int) -> str:
        ids = [intent.id for intent in self.stripe_store.intents]
        return ids[pick % len(ids)] if ids else "pi_none"

    def a_payment(self, pick: int) -> str:
        ids = [payment.id for payment in self.razorpay_store.payments]
        return ids[pick % len(ids)] if ids else "pay_none"

    @rule(amount=AMOUNTS, is_manual=st.booleans())
    def create(self, amount: int, is_manual: bool) -> None:
        params = {"amount": amount, "currency": "usd"}
        self.stripe.intents.create(params | ({"capture_method": "manual"} if is_manual else {}))

    @rule(pick=PICKS, method=METHODS)
    def confirm(self, pick: int, method: str) -> None:
        params = {"payment_method": method, "return_url": "http://127.0.0.1/"}
        with contextlib.suppress(StripeRefusal):
            intent = self.stripe.intents.find(self.an_intent(pick))
            self.stripe.intents.confirm(intent, params, is_browser=True)

    @rule(pick=PICKS, passes=st.booleans())
    def answer_challenge(self, pick: int, passes: bool) -> None:
        with contextlib.suppress(StripeRefusal):
            intent = self.stripe.intents.find(self.an_intent(pick))
            self.sandbox.pages.answer_challenge(intent, passes=passes)

    @rule(pick=PICKS, amount=AMOUNTS)
    def capture(self, pick: int, amount: int) -> None:
        with contextlib.suppress(StripeRefusal):
            intent = self.stripe.intents.find(self.an_intent(pick))
            self.stripe.intents.capture(intent, {"amount_to_capture": amount})

    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        with contextlib.suppress(StripeRefusal):
            self.stripe.intents.cancel(self.stripe.intents.find(self.an_intent(pick)), {})

    @rule(pick=PICKS, amount=AMOUNTS)
    def refund(self, pick: int, amount: int) -> None:
        with contextlib.suppress(StripeRefusal):
            self.stripe.refunds.create({"payment_intent": self.an_intent(pick), "amount": amount})

    @rule(by_ms=st.sampled_from([500, 1_500, 8 * 86_400_000]))
    def let_time_pass(self, by_ms: int) -> None:
        self.sandbox.advance_clock(by_ms)

    @rule(amount=AMOUNTS, captures=st.booleans(), outcome=st.sampled_from(["succeeds", "fails"]))
    def order_and_pay(self, amount: int, captures: bool, outcome: str) -> None:
        data = {"amount": amount, "currency": "INR", "payment_capture": captures}
        order = self.razorpay.orders.create(data)
        self.razorpay.orders.pay(order, "upi", outcome)

    @rule(pick=PICKS, amount=AMOUNTS, is_late=st.booleans())
    def capture_order(self, pick: int, amount: int, is_late: bool) -> None:
        orders = self.razorpay.orders
        with contextlib.suppress(RazorpayRefusal):
            payment = orders.find_payment(self.a_payment(pick))
            if is_late:
                orders.authorise_late(payment)
            else:
                orders.capture(payment, {"amount": payment.amount})

    @rule(pick=PICKS, amount=AMOUNTS)
    def refund_order(self, pick: int, amount: int) -> None:
        with contextlib.suppress(RazorpayRefusal):
            payment = self.razorpay.orders.find_payment(self.a_payment(pick))
            self.razorpay.refunds.create(payment, {"amount": amount})

    @invariant()
    def the_books_say_what_stripes_objects_say(self) -> None:
        charges = list(self.stripe_store.charges)
        refunds = [row for row in self.stripe_store.refunds if row.status != "failed"]
        account = self.sandbox.ledger.statement().get("stripe", {}).get("USD", {})
        captured = sum(charge.amount_captured for charge in charges)
        refunded = sum(refund.amount for refund in refunds)
        assert account.get("captured", 0) == captured
        assert account.get("refunded", 0) == refunded
        assert captured == sum(intent.amount_received for intent in self.stripe_store.intents)
        assert refunded == sum(charge.amount_refunded for charge in charges)
        assert all(charge.amount_refunded <= charge.amount_captured for charge in charges)

    @invariant()
    def the_books_say_what_razorpays_objects_say(self) -> None:
        captured = [row for row in self.razorpay_store.payments if row.is_captured]
        account = self.sandbox.ledger.statement().get("razorpay", {}).get("INR", {})
        assert account.get("captured", 0) == sum(payment.amount for payment in captured)
        assert account.get("refunded", 0) == sum(payment.amount_refunded for payment in captured)
        assert all(payment.amount_refunded <= payment.amount for payment in captured)


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
