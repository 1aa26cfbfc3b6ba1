"""haproxy.cfg: one text, made of a ``GatewayConfig`` and nothing else.

Theory of operation

A connection is counted by its address before anything is read of it; who has too many is hung up
on. Inside TLS, a request passes these, in this order, and the first that objects answers it:

    rate      429; only admitted requests count, so that who keeps asking gets his share
    form      400, 405, 414, 431: dot segments, unknown methods, heads that are too large
    address   404 for all that is not one of the house's prefixes, Serve's own pages among it
    body      413 by its announced length, 408 when it is not complete in time, 413 by its real one

A body of the ordinary size fits into HAProxy's buffer and is waited for there. So the applications
never see a slow one, and their own limits are a second line. A large one is passed on as it comes;
the application that asked for it limits its time.

Then all that could be mistaken for the word of a gateway is removed and the gateway's own words are
set: X-Housefull-Client is the address, X-Housefull-Gateway proves who says so. On the way back,
plain text with which Serve speaks of its own troubles becomes a problem.

Sizes that belong together: a buffer holds a head, the ordinary body and what HAProxy itself adds
(``_MARGIN_BYTES``, most of it the index of a message that came in many small parts).
Memory is only taken while a request is being read, at most one buffer for each.

Requests are counted and not written down, so that nobody can fill a disk by asking; what HAProxy
says by itself is about the houses behind it.
"""

from __future__ import annotations

from serve_app.api.security_headers import SECURITY_HEADERS
from serve_app.gateway.answers import (
    ADDRESS_TOO_LONG,
    HEAD_TOO_LARGE,
    METHODS,
    as_directive,
    as_replacement,
    as_rule,
    own_answers,
    served_answers,
)
from serve_app.gateway.config import (
    ADDRESS_BYTES_MAX,
    HEAD_BYTES_MAX,
    HEADER_FIELDS_MAX,
    KIB,
    Backend,
    GatewayConfig,
    GatewayLimits,
)

CLIENT_HEADER = "X-Housefull-Client"
SECRET_HEADER = "X-Housefull-Gateway"
HEALTH_PATH = "/-/healthz"
METRICS_PATH = "/metrics"
STATISTICS_PATH = "/stats"
HTTPS_FRONTEND = "public"

_NOBODY_ID = 65534
_REWRITE_BYTES = 2 * KIB
_MARGIN_BYTES = 6 * KIB
_BUFFERED_BODY_BYTES_MAX = 64 * KIB
_FRAME_BYTES_MAX = 16 * KIB
_STREAMS_MAX = 32
_STREAMS_A_CONNECTION_MAX = 10_000
_GLITCHES_MAX = 200
_ADDRESSES_REMEMBERED = 100_000
_ADDRESS = "src,ipmask(32,64)"

# TLS 1.2 with forward secrecy and an authenticated cipher, or 1.3; every browser since 2015.
_CIPHERS_1_2 = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
_CIPHERS_1_3 = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
_CURVES = "X25519:P-256:P-384"

_REMOVED_PREFIXES = ("x-housefull-", "x-forwarded-", "x-serve-", "serve_", "x-original-")
_REMOVED = (
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-session-id",
    "x-request-disconnect-disabled",
    "x-request-timeout-seconds",
    "x-rewrite-url",
    "x-http-method-override",
    # No application here speaks anything but HTTP, and a tunnel would have no limits. What a client
    # calls a matter of its connection must not be taken away by who stands behind.
    "upgrade",
    "http2-settings",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "proxy",
)
"""What some proxy, framework or Serve believes of whoever sends it."""

_REQUEST_ID = "^[A-Za-z0-9._:+/=@-]{1,128}$"
_DOT_SEGMENT = "(?i)(/|%2f)(\\.|%2e){1,2}(/|%2f|;|$)"


def configuration(config: GatewayConfig) -> str:
    """The whole text; it holds no secret."""
    sections = [
        ("global", _global(config)),
        ("defaults", _defaults(config.limits)),
        (f"frontend {HTTPS_FRONTEND}", _public(config)),
        ("frontend redirect", _redirect(config)),
        ("frontend metrics", _metrics(config)),
        ("backend house", _house(config)),
        ("backend addresses", _addresses(config.limits)),
    ]
    return "\n".join(
        f"{title}\n" + "".join(f"    {line}\n" for line in lines) for title, lines in sections
    )


def _global(config: GatewayConfig) -> list[str]:
    buffered = min(config.limits.body_bytes_max, _BUFFERED_BODY_BYTES_MAX)
    message = ADDRESS_BYTES_MAX + HEAD_BYTES_MAX + buffered
    lines = [
        f"stats socket '{config.control_socket}' mode 600 level admin expose-fd listeners",
        "stats timeout 30s",
        f"maxconn {config.limits.connections_max}",
        f"nbthread {config.threads}",
        "hard-stop-after 15s",
        f"tune.bufsize {message + _MARGIN_BYTES + _REWRITE_BYTES}",
        f"tune.maxrewrite {_REWRITE_BYTES}",
        f"tune.http.maxhdr {HEADER_FIELDS_MAX}",
        f"tune.h2.max-frame-size {_FRAME_BYTES_MAX}",
        f"tune.h2.fe.max-concurrent-streams {_STREAMS_MAX}",
        f"tune.h2.fe.max-total-streams {_STREAMS_A_CONNECTION_MAX}",
        f"tune.h2.fe.glitches-threshold {_GLITCHES_MAX}",
        # Without tickets there is no key that would undo the secrecy of recorded sessions.
        "ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
        f"ssl-default-bind-ciphers {_CIPHERS_1_2}",
        f"ssl-default-bind-ciphersuites {_CIPHERS_1_3}",
        f"ssl-default-bind-curves {_CURVES}",
    ]
    if config.is_root:
        lines += [f"uid {_NOBODY_ID}", f"gid {_NOBODY_ID}"]
    return lines


def _defaults(limits: GatewayLimits) -> list[str]:
    return [
        "mode http",
        f"timeout http-request {limits.head_timeout_s}s",
        # Also what a TLS handshake may take, and a client that stops reading its answer.
        f"timeout client {limits.body_timeout_s}s",
        f"timeout http-keep-alive {limits.idle_timeout_s}s",
        "timeout connect 2s",
        "timeout queue 5s",
        f"timeout server {limits.answer_timeout_s}s",
        "option http-no-delay",
        *(as_directive(problem) for problem in own_answers(limits.rate_window_s)),
    ]


def _counted(limits: GatewayLimits) -> list[str]:
    """Rules for connections, for every frontend that is public."""
    # Somebody who opens a connection for each request should meet the limit of requests first.
    opened_max = 2 * limits.requests_per_window_max
    return [
        f"tcp-request connection track-sc0 {_ADDRESS} table addresses",
        "tcp-request connection reject if "
        f"{{ sc0_conn_cur gt {limits.connections_per_address_max} }}",
        f"tcp-request connection reject if {{ sc0_conn_rate gt {opened_max} }}",
    ]


def _rated(limits: GatewayLimits) -> list[str]:
    return [
        "http-request deny deny_status 429 if "
        f"{{ sc0_gpc0_rate ge {limits.requests_per_window_max} }}",
        "http-request sc-inc-gpc0(0)",
    ]


def _public(config: GatewayConfig) -> list[str]:
    limits = config.limits
    listens = Backend(config.host, config.https_port).address
    return [
        f"bind {listens} ssl crt '{config.certificate}' alpn h2,http/1.1",
        *_counted(limits),
        *_identified(),
        *_rated(limits),
        f"{as_rule(HEAD_TOO_LARGE)} if {{ req.hdrs,length gt {HEAD_BYTES_MAX} }}",
        f"{as_rule(ADDRESS_TOO_LONG)} if {{ url,length gt {ADDRESS_BYTES_MAX} }}",
        "http-request deny deny_status 400 unless { req.hdr(host) -m found }",
        f"http-request deny deny_status 405 unless {{ method {' '.join(METHODS)} }}",
        f"http-request deny deny_status 400 if {{ path -m reg '{_DOT_SEGMENT}' }}",
        *_routed(config.prefixes),
        *_measured(limits),
        *(f"http-request del-header {name} -m beg" for name in _REMOVED_PREFIXES),
        *(f"http-request del-header {name}" for name in _REMOVED),
        f"http-request set-header {CLIENT_HEADER} %[src]",
        f"http-request set-header {SECRET_HEADER} %[str(secret),map('{config.secret_map}')]",
        *(as_replacement(problem) for problem in served_answers()),
        "http-after-response set-header Strict-Transport-Security "
        f"'max-age={config.hsts_max_age_s}'",
        "http-after-response del-header Server",
        *_hardened(),
        "default_backend house",
    ]


def _hardened() -> list[str]:
    """What the applications say with every response, for the gateway's own."""
    return [
        f'http-after-response set-header {name.decode()} "{value.decode()}" '
        f"unless {{ res.hdr({name.decode()}) -m found }}"
        for name, value in SECURITY_HEADERS
    ]


def _identified() -> list[str]:
    """The request's id: the client's when it is one and well-formed, else a new one."""
    ours = "{ var(txn.request_id) -m found }"
    return [
        "http-request set-var(txn.request_id) req.fhdr(x-request-id) if "
        f"{{ req.fhdr_cnt(x-request-id) eq 1 }} "
        f"{{ req.fhdr(x-request-id) -m reg '{_REQUEST_ID}' }}",
        f"http-request set-var(txn.request_id) uuid unless {ours}",
        "http-request set-header X-Request-Id %[var(txn.request_id)]",
        f"http-after-response set-header X-Request-Id %[var(txn.request_id)] if {ours}",
    ]


def _routed(prefixes: tuple[str, ...]) -> list[str]:
    return [
        "acl is_known path /",
        *(f"acl is_known path {prefix}" for prefix in prefixes),
        *(f"acl is_known path_beg {prefix}/" for prefix in prefixes),
        "http-request deny deny_status 404 unless is_known",
    ]


def _measured(limits: GatewayLimits) -> list[str]:
    """What a body may have, in bytes and in time."""
    lines = [f"http-request set-var(txn.body_bytes_max) int({limits.body_bytes_max})"]
    for large in limits.large_bodies:
        if large.bytes_max <= limits.body_bytes_max:
            continue
        lines += [
            f"acl is_large path {large.prefix}",
            f"acl is_large path_beg {large.prefix}/",
            f"http-request set-var(txn.body_bytes_max) int({large.bytes_max}) if "
            f"{{ path {large.prefix} }} or {{ path_beg {large.prefix}/ }}",
        ]
    is_too_large = "{ req.body_size,sub(txn.body_bytes_max) gt 0 }"
    waits = f"http-request wait-for-body time {limits.body_timeout_s}s"
    if any("is_large" in line for line in lines):
        waits += " unless is_large"
    return [
        *lines,
        f"http-request deny deny_status 413 if {is_too_large}",
        waits,
        f"http-request deny deny_status 413 if {is_too_large}",
    ]


def _redirect(config: GatewayConfig) -> list[str]:
    port = "" if config.https_port == 443 else f":{config.https_port}"
    host = "%[req.hdr(host),regsub(:[0-9]*$,)]"
    return [
        f"bind {Backend(config.host, config.http_port).address}",
        *_counted(config.limits),
        *_rated(config.limits),
        "http-request deny deny_status 400 unless "
        "{ req.hdr(host) -m reg '^[][A-Za-z0-9.:-]+$' } { path_beg / }",
        f"http-request redirect code 308 location https://{host}{port}%[pathq]",
    ]


def _metrics(config: GatewayConfig) -> list[str]:
    return [
        f"bind 127.0.0.1:{config.metrics_port}",
        f"http-request use-service prometheus-exporter if {{ path {METRICS_PATH} }}",
        "stats enable",
        f"stats uri {STATISTICS_PATH}",
        f"http-request deny deny_status 404 unless {{ path {STATISTICS_PATH} }}",
    ]


def _house(config: GatewayConfig) -> list[str]:
    servers = [
        f"server house{number} {backend.address}"
        for number, backend in enumerate(config.backends, start=1)
    ]
    return [
        "balance leastconn",
        f"option httpchk GET {HEALTH_PATH}",
        "http-check expect status 200",
        "default-server check inter 1s fastinter 500ms downinter 1s fall 3 rise 1",
        # Only what was never sent: anything else may have been carried out.
        "retry-on conn-failure",
        "retries 1",
        "option redispatch 1",
        *servers,
    ]


def _addresses(limits: GatewayLimits) -> list[str]:
    window = f"{limits.rate_window_s}s"
    kept_s = 3 * limits.rate_window_s
    stored = f"conn_cur,conn_rate({window}),gpc0,gpc0_rate({window})"
    return [
        f"stick-table type ipv6 size {_ADDRESSES_REMEMBERED} expire {kept_s}s store {stored}",
    ]
