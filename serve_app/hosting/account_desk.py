"""Opens, in a replica, what the routes of the account application turn to.

Waits for no database and no mail server, like ``desks``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from integrations.mail.directory_mailbox import DirectoryMailbox
from integrations.mail.mailbox import Mailbox
from integrations.mail.smtp_mailbox import SmtpMailbox, read_mail_url
from persistence.accounts import Accounts
from persistence.migrate import ACCOUNTS_GROUP
from persistence.sessions import open_pool
from serve_app.access.access_tokens import TokenIssuer, TokenVerifier
from serve_app.access.access_watch import watching
from serve_app.access.hashing_process import HashingFailed
from serve_app.access.password_hasher import PasswordHasher
from serve_app.api.account.caretaker import open_caretaker
from serve_app.api.account.desk import AccountDesk
from serve_app.api.account.post_office import open_post_office
from serve_app.hosting.desks import close_pool, probe_access
from serve_app.hosting.edge_config import EdgeConfig

_CONNECTIONS_MAX = 6


@asynccontextmanager
async def open_account_desk(
    edge: EdgeConfig, verifier: TokenVerifier
) -> AsyncIterator[AccountDesk]:
    """The desk of the account application, which keeps ``verifier`` informed; closed at the end."""
    async with AsyncExitStack() as opened:
        # The only application whose sessions may read passwords and private keys.
        pool = await open_pool(
            edge.catalogue_dsn, "account", size_max=_CONNECTIONS_MAX, role=ACCOUNTS_GROUP
        )
        opened.push_async_callback(close_pool, pool)
        accounts, issuer, hasher = Accounts(pool), TokenIssuer(), PasswordHasher()
        opened.callback(hasher.close)
        with suppress(HashingFailed):
            await hasher.start()
        await opened.enter_async_context(watching(accounts, verifier))
        caretaker = await opened.enter_async_context(open_caretaker(accounts, issuer))
        office = await opened.enter_async_context(open_post_office(open_mailbox(edge)))
        yield AccountDesk(
            accounts=accounts,
            issuer=issuer,
            public_keys=lambda: caretaker.public_keys,
            hasher=hasher,
            post_office=office,
            site_url=edge.public_url,
            probes=[probe_access(verifier)],
        )


def open_mailbox(edge: EdgeConfig) -> Mailbox:
    """Where letters go: to a mail server, or into files."""
    if edge.smtp_url is None:
        return DirectoryMailbox(Path(edge.mail_directory), edge.mail_from)
    return SmtpMailbox(read_mail_url(edge.smtp_url), edge.mail_from)
