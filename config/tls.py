"""TLS towards RabbitMQ and Redis: what their clients leave unchecked unless they are told.

All clients trust the authorities of the system, or those in the file that OpenSSL's own variable ``SSL_CERT_FILE``
names; for Postgres the address itself says whom to trust (``sslrootcert``).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from config.settings import Settings


def broker_tls(settings: Settings) -> dict[str, object] | bool:
    """What kombu takes as ``ssl``. Under ``amqps://`` alone it would take a certificate for any other host as well."""
    address = urlsplit(settings.broker_url)
    return {"server_hostname": address.hostname} if address.scheme == "amqps" else False


def chord_store_url(settings: Settings) -> str:
    """The address of Redis as Celery takes it, which refuses ``rediss://`` without a word on certificates."""
    url = settings.redis_url
    if not url.startswith("rediss://") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}ssl_cert_reqs=required"
