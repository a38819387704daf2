"""An HTTP/1 server, by hand, that does what servers may do and frameworks hide. The path says what.

usage: odd_http.py PORT

It reads one request after the other from a connection. What is not in the table below is answered with the
head of the request, as JSON.
"""
import base64
import hashlib
import json
import select
import socket
import socketserver
import struct
import sys
import threading


class Odd(socketserver.BaseRequestHandler):
    def setup(self):
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def handle(self):
        try:
            while head := self.read_head():
                lines = head.decode("latin-1").split("\r\n")
                method, self.path, self.version = lines[0].split(" ")
                self.lines = lines
                self.headers = {}
                for line in lines[1:]:
                    name, _, value = line.partition(":")
                    self.headers[name.lower()] = value.strip()
                answer = Odd.connect if method == "CONNECT" else ANSWERS.get(self.path, Odd.echo)
                if answer(self) == "close":
                    return
        except (ConnectionError, ValueError):
            return

    # Reading and writing

    def read_head(self):
        while b"\r\n\r\n" not in self.buffer:
            if not self.fill():
                return b""
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head

    def fill(self):
        piece = self.request.recv(65536)
        self.buffer += piece
        return piece

    def take(self, number):
        while len(self.buffer) < number:
            if not self.fill():
                raise ConnectionError("ended early")
        taken, self.buffer = self.buffer[:number], self.buffer[number:]
        return taken

    def body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            whole = b""
            while True:
                while b"\r\n" not in self.buffer:
                    if not self.fill():
                        raise ConnectionError("ended early")
                size, _, self.buffer = self.buffer.partition(b"\r\n")
                chunk = self.take(int(size, 16))
                self.take(2)
                if not chunk:
                    return whole
                whole += chunk
        return self.take(int(self.headers.get("content-length", 0)))

    def send(self, text):
        self.request.sendall(text if isinstance(text, bytes) else text.encode("latin-1"))

    def answer(self, status, value, headers=""):
        text = value if isinstance(value, str) else json.dumps(value)
        self.send(f"HTTP/1.1 {status}\r\ncontent-length: {len(text)}\r\n{headers}\r\n{text}")

    def arrives(self, seconds):
        """Whether anything comes within that time."""
        return bool(self.buffer) or bool(select.select([self.request], [], [], seconds)[0])

    def reset(self):
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()
        return "close"

    # Answers

    def echo(self):
        body = self.body()
        self.answer("200 OK", {
            "path": self.path, "version": self.version, "headers": self.headers, "body": body.decode("latin-1"),
        })

    def short_length(self):
        self.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly these")
        return "close"

    def short_chunks(self):
        self.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nonly these\r\n")
        return "close"

    def reset_length(self):
        self.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly these")
        NEWS.wait_for("reset")
        return self.reset()

    def reset_chunks(self):
        self.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nonly these\r\n")
        NEWS.wait_for("reset")
        return self.reset()

    def reset_until_close(self):
        self.send("HTTP/1.1 200 OK\r\n\r\nonly these")
        NEWS.wait_for("reset")
        return self.reset()

    def until_close(self):
        self.send("HTTP/1.1 200 OK\r\n\r\nall of it")
        return "close"

    def old(self):
        self.send("HTTP/1.0 200 OK\r\n\r\nfrom of old")
        return "close"

    def old_keep_alive(self):
        self.send("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\nkept")

    def nothing(self):
        return "close"

    def asks(self):
        came = self.arrives(0.4)
        self.send("HTTP/1.1 100 Continue\r\n\r\n")
        body = self.body()
        self.answer("200 OK", {"early": came, "expect": self.headers.get("expect"), "bytes": len(body)})

    def refuses(self):
        came = self.arrives(0.4)
        self.answer("417 Expectation Failed", {"early": came})

    def asks_never(self):
        self.answer("200 OK", {"bytes": len(self.body())})

    def early(self):
        self.answer("413 Content Too Large", "too large", "connection: close\r\n")
        return "close"

    def early_and_reads(self):
        self.answer("413 Content Too Large", "too large")
        self.body()

    def hints(self):
        self.send("HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n")
        self.answer("200 OK", "after the hints")

    def events(self):
        self.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for name in ("first", "second", "third"):
            event = f"data: {name}\n\n"
            self.send(f"{len(event):x}\r\n{event}\r\n")
            NEWS.wait_for(name)
        self.send("0\r\n\r\n")

    def tell(self):
        NEWS.tell(self.path.rpartition("/")[2])
        self.answer("200 OK", "told")

    def websocket(self):
        if self.headers.get("upgrade") != "websocket":
            return self.answer("426 Upgrade Required", "no", "upgrade: websocket\r\n")
        accept = hashlib.sha1((self.headers["sec-websocket-key"] + MAGIC).encode()).digest()
        self.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                  f"sec-websocket-accept: {base64.b64encode(accept).decode()}\r\n\r\n")
        while True:
            opcode, payload = self.frame()
            if opcode == 8:
                self.send(self.framed(8, payload))
                return "close"
            self.send(self.framed(opcode, b"answered-" + payload))

    def frame(self):
        first, second = self.take(2)
        length = second & 127
        if length == 126:
            length, = struct.unpack(">H", self.take(2))
        elif length == 127:
            length, = struct.unpack(">Q", self.take(8))
        mask = self.take(4) if second & 128 else bytes(4)
        payload = self.take(length)
        repeated = mask * (length // 4 + 1)
        number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:length], "big")
        return first & 15, number.to_bytes(length, "big")

    @staticmethod
    def framed(opcode, payload):
        if len(payload) < 126:
            head = struct.pack(">BB", 128 | opcode, len(payload))
        elif len(payload) < 65536:
            head = struct.pack(">BBH", 128 | opcode, 126, len(payload))
        else:
            head = struct.pack(">BBQ", 128 | opcode, 127, len(payload))
        return head + payload

    def upgrade(self):
        self.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: heddle-test\r\nconnection: upgrade\r\n\r\nserver first\n")
        return self.lines_until_end()

    def upgrade_and_break(self):
        self.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: heddle-test\r\nconnection: upgrade\r\n\r\nserver first\n")
        self.take(1)
        return self.reset()

    def no_upgrade(self):
        self.answer("200 OK", "an ordinary answer")

    def connect(self):
        if self.path.startswith("closed"):
            return self.answer("403 Forbidden", "not there")
        self.send("HTTP/1.1 200 OK\r\n\r\n")
        return self.lines_until_end()

    def lines_until_end(self):
        received = 0
        while self.buffer or self.fill():
            received += len(self.buffer)
            if self.buffer.startswith(b"a line"):
                self.send(b"answered-" + self.buffer)
            self.buffer = b""
        # The client has ended its half: this half goes on.
        self.send(f"ended after {received} bytes\n")
        return "close"


class News:
    """What other connections have told."""

    def __init__(self):
        self.changed = threading.Condition()
        self.told = set()

    def tell(self, name):
        with self.changed:
            self.told.add(name)
            self.changed.notify_all()

    def wait_for(self, name):
        with self.changed:
            self.changed.wait_for(lambda: name in self.told, timeout=60)
            self.told.discard(name)


class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256


ANSWERS = {
    "/short-length": Odd.short_length, "/short-chunks": Odd.short_chunks, "/reset-length": Odd.reset_length,
    "/reset-chunks": Odd.reset_chunks, "/reset-until-close": Odd.reset_until_close,
    "/until-close": Odd.until_close, "/old": Odd.old, "/old-keep-alive": Odd.old_keep_alive, "/nothing": Odd.nothing,
    "/asks": Odd.asks, "/refuses": Odd.refuses, "/asks-never": Odd.asks_never, "/early": Odd.early,
    "/early-and-reads": Odd.early_and_reads, "/hints": Odd.hints, "/events": Odd.events,
    "/websocket": Odd.websocket, "/upgrade": Odd.upgrade, "/upgrade-and-break": Odd.upgrade_and_break,
    "/no-upgrade": Odd.no_upgrade,
    **{f"/tell/{name}": Odd.tell for name in ("first", "second", "third", "reset")},
}
MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
NEWS = News()
Server(("::", int(sys.argv[1])), Odd).serve_forever()
