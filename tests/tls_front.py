"""TLS in front of a Postgres that has none: the protocol's first step, then bytes both ways."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
GSS_REQUEST: Final = struct.pack("!II", 8, 80877104)
REFUSAL: Final = b"SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry for host, no encryption\0\0"
BLOCK: Final = 2**16


class TlsFront:
    """Listens on `port` and hands on to the server's port what comes by TLS, and nothing else."""

    def __init__(self, server: int, certificate: Path, key: Path) -> None:
        self._server = server
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.encrypted = 0
        """Connections so far."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
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
                with self._context.wrap_socket(client, server_side=True) as secure:
                    self.encrypted += 1
                    with socket.create_connection(("127.0.0.1", self._server)) as server:
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
