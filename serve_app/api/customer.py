"""Who is asking: the customer that the header ``X-Customer-Id`` names.

There are no accounts yet, so the header proves nothing and is believed only when the request
was made on this machine. Three things decide that, and all must hold:

* The house takes connections on a loopback address only. Serve's HAProxy connects to its
  replicas over loopback and says nothing about its client, so on any other address a request
  from far away would look like one from here. The house knows this; a request cannot change it.
* The peer is on loopback. Replicas listen on all interfaces; this refuses whoever goes around
  the proxy.
* Every address that a proxy in front of the house wrote down is on loopback. A client may add
  such entries but cannot remove what a proxy appends, so inventing them helps nobody.

A proxy on this machine that forwards without writing anything down speaks for its clients
itself: do not put one in front of a house without accounts.
"""

from __future__ import annotations

import ipaddress
import re

from starlette.types import Scope

from reservation.ids import CustomerId
from serve_app.api.problems import Problem, bad_field

HEADER = "X-Customer-Id"
PATTERN = r"[A-Za-z0-9_.@:-]{1,64}"

_CUSTOMER = re.compile(PATTERN.encode())
_ADDRESS_LISTS = frozenset({b"x-forwarded-for", b"x-real-ip"})
# Its grammar has quoted and obfuscated names; no proxy that we know of writes it by default.
_UNREADABLE = b"forwarded"
_CHALLENGE = {"WWW-Authenticate": "Customer"}


class CustomerGate:
    """Says who is asking.

    ``is_house_local`` says that the house takes connections on loopback only.
    """

    def __init__(self, *, is_house_local: bool) -> None:
        self._is_house_local = is_house_local

    def customer_of(self, scope: Scope) -> CustomerId:
        """The customer that this request is made for.

        Raises:
            Problem: ``customer_missing``, ``customer_not_accepted`` or ``invalid_header``.
        """
        named: bytes | None = None
        is_local = self._is_house_local and _is_peer_local(scope)
        for name, value in scope["headers"]:
            if name == b"x-customer-id":
                if named is not None:
                    raise bad_field(HEADER, "is given twice", "invalid_header")
                named = value
            elif name in _ADDRESS_LISTS:
                is_local = is_local and _are_all_loopback(value)
            elif name == _UNREADABLE:
                is_local = False
        if named is None:
            raise Problem(
                "customer_missing",
                f"Say who is asking with the header {HEADER}.",
                headers=_CHALLENGE,
            )
        if not is_local:
            raise Problem(
                "customer_not_accepted",
                f"{HEADER} is accepted only from the machine that the house runs on.",
                headers=_CHALLENGE,
            )
        if _CUSTOMER.fullmatch(named) is None:
            raise bad_field(HEADER, f"must be {PATTERN}", "invalid_header")
        return CustomerId(named.decode())


def _is_peer_local(scope: Scope) -> bool:
    client = scope.get("client")
    return client is not None and _is_loopback(client[0])


def _are_all_loopback(value: bytes) -> bool:
    return all(_is_loopback(entry.strip()) for entry in value.decode("latin-1").split(","))


def _is_loopback(host: str) -> bool:
    if host == "127.0.0.1":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
