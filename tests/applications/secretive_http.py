"""An HTTP/1 server with secrets of its own, which writes down what it was told: secretive_http.py PORT SECRET

`/fail` fails, `/break` breaks off, and everything else is answered with what it was asked."""

import socketserver
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        told = f"{self.requestline}\n{self.headers}{body.decode()}\n"
        print(told, flush=True)
        self.send_response(500 if self.path.startswith("/fail") else 200)
        self.send_header("set-cookie", f"session={sys.argv[2]}-set-cookie; HttpOnly")
        self.send_header("x-internal-token", f"{sys.argv[2]}-response-header")
        payload = f"{sys.argv[2]}-response-body\n".encode()
        breaks = self.path.startswith("/break")
        self.send_header("content-length", str(len(payload) + (100 if breaks else 0)))
        self.end_headers()
        self.wfile.write(payload)
        self.close_connection = breaks

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = socketserver.TCPServer.request_queue_size * 20


Server(("", int(sys.argv[1])), Handler).serve_forever()
