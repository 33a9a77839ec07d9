"""Ports with no broker behind them."""

import socketserver
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


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
