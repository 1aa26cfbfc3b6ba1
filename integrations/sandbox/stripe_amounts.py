"""Amounts, currencies and metadata, as Stripe checks and words them."""

from __future__ import annotations

from typing import Any

from integrations.sandbox.stripe_errors import bad_parameter

AMOUNT_MAX = 99_999_999
METADATA_KEYS_MAX = 50
METADATA_KEY_LENGTH_MAX = 40
METADATA_VALUE_LENGTH_MAX = 500

_ALL = (
    "usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bif bmd bnd bob brl bsd bwp byn "
    "bzd cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd "
    "gnf gtq gyd hkd hnl htg huf idr ils inr isk jmd jpy kes kgs khr kmf krw kyd kzt lak lbp lkr "
    "lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen "
    "pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd std szl thb tjs "
    "top try ttd twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xof xpf yer zar zmw bhd jod kwd omr "
    "tnd"
)
CURRENCIES = frozenset(_ALL.split(" "))
_ZERO = "bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf"
_ZERO_DECIMAL = frozenset(_ZERO.split(" "))
_THREE_DECIMAL = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))
_AMOUNT_MIN = {"gbp": 30, "dkk": 250, "nok": 300, "sek": 300, "mxn": 1_000, "hkd": 400}
_SIGNS = {"usd": "$", "eur": "€", "gbp": "£", "inr": "₹", "jpy": "¥"}


def written_amount(amount_minor: int, currency: str) -> str:
    """An amount as Stripe's messages write it.

    Example:
        >>> written_amount(9390, "usd"), written_amount(500, "jpy"), written_amount(1234, "kwd")
        ('$93.90', '¥500', '1.234 KWD')
    """
    decimals = 0 if currency in _ZERO_DECIMAL else 3 if currency in _THREE_DECIMAL else 2
    number = f"{amount_minor / 10**decimals:,.{decimals}f}"
    sign = _SIGNS.get(currency)
    return f"{sign}{number}" if sign else f"{number} {currency.upper()}"


def check_amount(amount_minor: int, currency: str) -> None:
    """Whether so much can be taken at all.

    Raises:
        StripeRefusal: it is too little, or too much.
    """
    if amount_minor < 1:
        raise bad_parameter(
            "This value must be greater than or equal to 1.", "parameter_invalid_integer", "amount"
        )
    least = _AMOUNT_MIN.get(currency, 50)
    if amount_minor < least:
        raise bad_parameter(
            f"Amount must be at least {written_amount(least, currency)} {currency}",
            "amount_too_small",
            "amount",
        )
    if amount_minor > AMOUNT_MAX:
        raise bad_parameter(
            f"Amount must be no more than {written_amount(AMOUNT_MAX, currency)}",
            "amount_too_large",
            "amount",
        )


def read_currency(written: str) -> str:
    """The currency in lower case.

    Raises:
        StripeRefusal: Stripe does not know it.
    """
    currency = written.lower()
    if currency not in CURRENCIES:
        raise bad_parameter(
            f"Invalid currency: {written}. Stripe currently supports these currencies: "
            f"{', '.join(sorted(CURRENCIES))}",
            None,
            "currency",
        )
    return currency


def merged_metadata(old: dict[str, str], given: Any) -> dict[str, str]:
    """What is left when ``given`` is put over ``old``; an empty value takes its key away.

    Raises:
        StripeRefusal: it is too much.
    """
    if given == "":
        return {}
    new = {**old, **(given or {})}
    new = {key: value for key, value in new.items() if value != ""}
    if len(new) > METADATA_KEYS_MAX:
        raise bad_parameter(
            f"You can only have up to {METADATA_KEYS_MAX} keys in metadata", None, "metadata"
        )
    for key, value in new.items():
        if len(key) > METADATA_KEY_LENGTH_MAX:
            raise bad_parameter(
                f"Metadata keys must be under {METADATA_KEY_LENGTH_MAX} characters long",
                None,
                f"metadata[{key}]",
            )
        if len(value) > METADATA_VALUE_LENGTH_MAX:
            raise bad_parameter(
                f"Metadata values can have up to {METADATA_VALUE_LENGTH_MAX} characters, but you "
                f"passed in a value that is {len(value)} characters. Invalid value: {value[:40]}…",
                None,
                f"metadata[{key}]",
            )
    return new
