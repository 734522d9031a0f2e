"""TLS in front of a Postgres that has none: the protocol's first step, then bytes both ways."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
GSS_REQUEST: Final = struct.pack("!II", 8, 80877104)
REFUSAL: Final = b"SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry for host, no encryption\0\0"
BLOCK: Final = 2**16


@contextmanager
def tls_front(server: int, certificate: Path, key: Path) -> Iterator[int]:
    """A port that hands on to the server's port what comes by TLS, and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=_serve, args=(client, context, server), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])


def _serve(client: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with client:
        request = client.recv(len(SSL_REQUEST), socket.MSG_WAITALL)
        while request == GSS_REQUEST:
            client.sendall(b"N")
            request = client.recv(len(SSL_REQUEST), socket.MSG_WAITALL)
        if request != SSL_REQUEST:
            client.sendall(b"E" + struct.pack("!I", len(REFUSAL) + 4) + REFUSAL)
            return
        client.sendall(b"S")
        try:
            with (
                context.wrap_socket(client, server_side=True) as secure,
                socket.create_connection(("127.0.0.1", port)) as server,
            ):
                _pump(secure, server)
        except OSError:  # the client does not like the certificate, or is gone
            return


def _pump(secure: ssl.SSLSocket, server: socket.socket) -> None:
    """Until one of the two closes."""
    while True:
        # What TLS has decrypted already does not make the socket readable.
        ready = [secure] if secure.pending() else select.select([secure, server], [], [])[0]
        for source in ready:
            data = source.recv(BLOCK)
            if not data:
                return
            (server if source is secure else secure).sendall(data)
