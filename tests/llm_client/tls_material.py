"""A certificate for 127.0.0.1 and localhost, for tests only: its key is no secret."""

from __future__ import annotations

import ssl
from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBozCCAUmgAwIBAgIUJO5zjRVVowvYnOxQzfDeSMi7QvQwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNbG9vcGJhY2sgdGVzdDAgFw0yNjExMjEwNDIxNDFaGA8yMTI2
MTAyODA0MjE0MVowGDEWMBQGA1UEAwwNbG9vcGJhY2sgdGVzdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABJWxYGbzgYC7d9YJS7bQj0zEgD0Jv7TdhCB3MA2neFaZ
b834PqS2eYm8Cu+bTxCxN0aWk6byFUOM58QX3mo3Fz2jbzBtMB0GA1UdDgQWBBT8
Qwpgy5lSWRClj94rOVdMj2x1pzAfBgNVHSMEGDAWgBT8Qwpgy5lSWRClj94rOVdM
j2x1pzAPBgNVHRMBAf8EBTADAQH/MBoGA1UdEQQTMBGHBH8AAAGCCWxvY2FsaG9z
dDAKBggqhkjOPQQDAgNIADBFAiAN+V9a69yY9y+t1vN2CGqA+uj4r2y/1Qolbl/8
hGNd0AIhAJz3ifDfZdQzOAgRh3fnEHfdkeCxMnD7tQbZqtO9iymP
-----END CERTIFICATE-----
"""

# Of the test server, and of nothing else in the world.
TEST_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgqpNQFdfuq9hioRxq
4zmb0yGNqTGDUp4MNoXFDoITQ5qhRANCAASVsWBm84GAu3fWCUu20I9MxIA9Cb+0
3YQgdzANp3hWmW/N+D6ktnmJvArvm08QsTdGlpOm8hVDjOfEF95qNxc9
-----END PRIVATE KEY-----
"""


def server_context(folder: Path) -> ssl.SSLContext:
    """What a server on 127.0.0.1 identifies itself with; `folder` is for its files."""
    file = folder / "server.pem"
    file.write_text(CERTIFICATE + TEST_KEY)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return context


def client_context() -> ssl.SSLContext:
    """What trusts that server and nobody else."""
    return ssl.create_default_context(cadata=CERTIFICATE)
