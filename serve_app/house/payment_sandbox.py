"""The payment provider that a house brings along, so that checkouts work before there are keys.

It is the program of ``integrations/sandbox``: a process of its own on loopback, which the house
talks to as it would talk to Stripe and Razorpay, and whose webhooks come back over HTTP. What it
remembers and its keys, which are no other house's, are in the data directory.
"""

from __future__ import annotations

import json
import secrets
import signal
import socket
import sys
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path

from integrations.payments.provider_config import (
    PaymentProvidersConfig,
    RazorpayConfig,
    StripeConfig,
)
from integrations.payments.stripe_notices import EVENTS_WANTED
from persistence.child_process import ChildProcess, EmbeddedServerError, own_identity
from serve_app.house.data_directory import DataDirectory, write_private

START_TIMEOUT_MS = 60_000
STOP_TIMEOUT_MS = 3_000
WEBHOOKS = "/api/payments/webhooks"

_HOST = "127.0.0.1"
_CONTROL_TIMEOUT_S = 10
_PROBE_TIMEOUT_S = 1
# The program of this checkout or wheel, whatever else is installed.
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, repr=False)
class SandboxKeys:
    """What the house and its sandbox know each other by."""

    secret_key: str
    publishable_key: str
    razorpay_key_id: str
    razorpay_key_secret: str
    stripe_webhook_secret: str
    razorpay_webhook_secret: str


def read_sandbox_keys(path: Path) -> SandboxKeys:
    """The keys in this file; random ones, readable by this user only, when there is none yet."""
    try:
        return SandboxKeys(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        keys = SandboxKeys(
            "sk_test_" + secrets.token_hex(24),
            "pk_test_" + secrets.token_hex(12),
            "rzp_test_" + secrets.token_hex(7),
            secrets.token_hex(24),
            "whsec_" + secrets.token_hex(24),
            secrets.token_hex(24),
        )
        write_private(path, json.dumps(asdict(keys)))
        return keys


@dataclass
class PaymentSandbox:
    """One sandbox, living no longer than this process.

    Call ``start`` from a thread that lives as long as the sandbox shall, normally the main thread
    (see ``persistence/child_process.py``).
    """

    data: DataDirectory
    port: int
    _child: ChildProcess = field(init=False, repr=False)
    _keys: SandboxKeys = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._child = ChildProcess("the payment sandbox", self.data.logs / "sandbox.log")
        self._keys = read_sandbox_keys(self.data.sandbox_keys)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{_HOST}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._child.is_running

    @property
    def providers(self) -> PaymentProvidersConfig:
        """It, as the two providers that it plays."""
        keys = self._keys
        return PaymentProvidersConfig(
            StripeConfig(
                keys.secret_key,
                keys.publishable_key,
                (keys.stripe_webhook_secret,),
                api_url=f"{self.url}/stripe",
            ),
            RazorpayConfig(
                keys.razorpay_key_id,
                keys.razorpay_key_secret,
                (keys.razorpay_webhook_secret,),
                api_url=f"{self.url}/razorpay",
            ),
        )

    def start(self) -> None:
        """Start it and return at once: it opens while others start; see ``send_webhooks_to``."""
        self.data.sandbox.mkdir(mode=0o700, exist_ok=True)
        # No secret in its arguments; and through env, because a child's environment is empty.
        program = ["env", f"PYTHONPATH={_ROOT}", sys.executable, "-m", "integrations.sandbox"]
        options = ["--port", str(self.port), "--state", str(self.data.sandbox)]
        self._child.start(
            [*program, *options, "--keys-file", str(self.data.sandbox_keys)],
            # It goes on where it was, also after this.
            death_signal="KILL",
            identity=own_identity(),
            inherited_descriptors=(),
        )

    def send_webhooks_to(self, house_url: str) -> None:
        """Wait until it is open, and have it tell this house of payments, and nobody else.

        Raises:
            EmbeddedServerError: it did not start; the message ends with its last words.
        """
        self._child.wait_until_ready(self._is_open, timeout_ms=START_TIMEOUT_MS)
        wanted = {
            "stripe": (f"{house_url}{WEBHOOKS}/stripe", self._keys.stripe_webhook_secret),
            "razorpay": (f"{house_url}{WEBHOOKS}/razorpay", self._keys.razorpay_webhook_secret),
        }
        for known in self._control("GET", "webhooks"):
            # Of an earlier run, which had another port.
            if known["url"] != wanted[known["provider"]][0]:
                self._control("DELETE", f"webhooks/{known['id']}", {})
        for provider, (url, secret) in wanted.items():
            kinds = sorted(EVENTS_WANTED) if provider == "stripe" else ["*"]
            told = {"provider": provider, "url": url, "secrets": [secret], "event_types": kinds}
            self._control("POST", "webhooks", told)

    def stop(self) -> None:
        """Stop it; does nothing when it does not run."""
        self._child.stop(signal.SIGTERM, timeout_ms=STOP_TIMEOUT_MS)

    def _is_open(self) -> bool:
        try:
            socket.create_connection((_HOST, self.port), timeout=_PROBE_TIMEOUT_S).close()
        except OSError:
            return False
        return True

    def _control(self, method: str, path: str, told: object = None) -> list[dict[str, str]]:
        request = urllib.request.Request(
            f"{self.url}/sandbox/{path}",
            None if told is None else json.dumps(told).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=_CONTROL_TIMEOUT_S) as response:
                answer = json.load(response)
        except (urllib.error.URLError, TimeoutError) as error:
            raise EmbeddedServerError(f"the payment sandbox refuses {path}: {error}") from error
        return answer if isinstance(answer, list) else [answer]
