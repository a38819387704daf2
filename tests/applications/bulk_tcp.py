"""Bytes in bulk, both ways at once, each checked on arrival.

usage: bulk_tcp.py serve PORT
       bulk_tcp.py exchange HOST PORT BYTES

The client says how many bytes it is about. Then both send that many, at once; the client ends its direction, and the
server, when it has read to that end, sends a last byte and ends its own. The client prints what it has read, as JSON.
"""
import json
import random
import socket
import socketserver
import sys
import threading

# No multiple of any buffer's size, so that a piece out of place is seen.
PIECE = random.Random(7).randbytes((1 << 20) + 7)


LAST = b"!"


def send(connection, number):
    while number > 0:
        piece = memoryview(PIECE)[:number]
        connection.sendall(piece)
        number -= len(piece)


def receive(connection, number):
    """Reads `number` bytes, which must be those that `send` sends."""
    twice = memoryview(PIECE + PIECE)
    buffer = memoryview(bytearray(1 << 20))
    received = 0
    while received < number:
        count = connection.recv_into(buffer[:number - received])
        if count == 0:
            raise ValueError(f"the end after {received} of {number} bytes")
        start = received % len(PIECE)
        if buffer[:count] != twice[start:start + count]:
            raise ValueError(f"other bytes after {received}")
        received += count


def end(connection, last):
    """The end of the other direction, after its last byte, if any."""
    rest = b""
    while piece := connection.recv(1024):
        rest += piece
    if rest != last:
        raise ValueError(f"{rest[:100]} at the end")


def sending(connection, number, then):
    thread = threading.Thread(target=lambda: (send(connection, number), then()))
    thread.start()
    return thread


class Bulk(socketserver.StreamRequestHandler):
    rbufsize = 0

    def handle(self):
        line = b""
        while not line.endswith(b"\n"):
            line += self.rfile.read(1)
        thread = sending(self.connection, int(line), lambda: None)
        receive(self.connection, int(line))
        end(self.connection, b"")
        thread.join()
        self.connection.sendall(LAST)


class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True


if sys.argv[1] == "serve":
    Server(("::", int(sys.argv[2])), Bulk).serve_forever()
else:
    with socket.create_connection((sys.argv[2], int(sys.argv[3]))) as connection:
        number = int(sys.argv[4])
        connection.sendall(f"{number}\n".encode())
        thread = sending(connection, number, lambda: connection.shutdown(socket.SHUT_WR))
        receive(connection, number)
        end(connection, LAST)
        thread.join()
        print(json.dumps({"received": number}))
