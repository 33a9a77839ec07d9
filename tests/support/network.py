"""Ports with no broker behind them."""

import socket
import socketserver
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


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
