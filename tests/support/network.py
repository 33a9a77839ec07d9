"""Ports that are free, and ports with no broker behind them. Imports no other module of this folder."""

import random
import socket
import socketserver
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

PORT_GUARDS = []  # sockets, see free_port()


def free_port():
    """Return a TCP port that nothing on this machine listens on.

    It is below the range for outgoing connections (32768 and up on Linux): a client that retries a stopped
    broker's port could otherwise end up connected to itself, and the broker would find its port in use.
    The port above it stays bound in this process, which keeps other processes from picking the same port.
    """
    while True:
        port, guard = random.randrange(20_000, 30_000, 2), socket.socket()
        with suppress(OSError):
            guard.bind(("127.0.0.1", port + 1))
            if is_free(port):
                PORT_GUARDS.append(guard)
                return port
        guard.close()


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@contextmanager
def silent_server():
    """Listen on some port, and never answer; accept() returns a connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        yield server


def address_of(server):
    return f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def closing_connections(port):
    """Accept and close each connection to the port, as a proxy does whose broker is unavailable."""

    class Proxy(socketserver.TCPServer):
        allow_reuse_address = True

    with Proxy(("127.0.0.1", port), socketserver.BaseRequestHandler) as proxy, ThreadPoolExecutor(1) as pool:
        pool.submit(proxy.serve_forever, poll_interval=0.05)
        try:
            yield
        finally:
            proxy.shutdown()
