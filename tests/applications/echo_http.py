"""An HTTP/1.1 server that knows nothing of a mesh: it answers with what it was asked, as JSON.

usage: echo_http.py PORT [NAME [ADDRESS]]

NAME is sent as `x-shop-version`, by which the load generator counts. `/slow?SECONDS` answers after that
time. The header `x-answer` and the body hold marks of the server's own, derived from the request's.
"""
import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One write per answer: small segments would wait for each other.
    wbufsize = -1
    disable_nagle_algorithm = True

    def answer(self):
        with UNDER_WAY:
            self.answer_counted()

    def answer_counted(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length).decode("utf-8", "replace")
        if self.path.startswith("/slow?"):
            time.sleep(float(self.path.partition("?")[2]))
        text = json.dumps({
            "name": NAME,
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "peer": self.client_address[0],
            "body": "answered-body-" + body,
        }).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.send_header("content-type", "application/json")
        self.send_header("x-shop-version", NAME)
        self.send_header("x-answer", "answered-header-" + self.headers.get("x-mark", ""))
        self.end_headers()
        self.wfile.write(text)
        self.wfile.flush()

    do_GET = answer
    do_POST = answer

    def log_message(self, *_):
        pass


class UnderWay:
    """Counts requests, so that none is cut off when the pod is asked to end."""

    def __init__(self):
        self.changed = threading.Condition()
        self.count = 0

    def __enter__(self):
        with self.changed:
            self.count += 1

    def __exit__(self, *_):
        with self.changed:
            self.count -= 1
            self.changed.notify_all()

    def end_with_the_last(self):
        with self.changed:
            self.changed.wait_for(lambda: self.count == 0)
            os._exit(0)


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6 if len(sys.argv) < 4 else socket.AF_INET
    request_queue_size = 256
    daemon_threads = True

    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


UNDER_WAY = UnderWay()
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=UNDER_WAY.end_with_the_last).start())
NAME = sys.argv[2] if len(sys.argv) > 2 else "echo"
ADDRESS = sys.argv[3] if len(sys.argv) > 3 else "::"
Server((ADDRESS, int(sys.argv[1])), Echo).serve_forever()
