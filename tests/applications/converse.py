"""A client that does one step after the other, as its standard input says, and prints what it read.

usage: converse.py HOST PORT

The input is a JSON list of steps:
  {"send": TEXT}            sends it, in Latin-1
  {"fill": NUMBER}          sends so many bytes `x`
  {"until": TEXT}           reads until that has come
  {"read": NUMBER}          reads so many bytes
  {"quiet": SECONDS}        nothing comes within that time
  {"end": true}             ends its own direction
  {"rest": true}            reads to the end
The output is JSON: `read`, for each step that reads, what it took, and `error`, what went wrong, if anything did.
"""
import json
import select
import socket
import sys

read, buffer = [], b""


def fill():
    global buffer
    piece = connection.recv(1 << 20)
    buffer += piece
    return piece


def take(number):
    global buffer
    taken, buffer = buffer[:number], buffer[number:]
    read.append(taken.decode("latin-1") if len(taken) < 10000 else f"{len(taken)} bytes")


def step(kind, value):
    if kind == "send":
        connection.sendall(value.encode("latin-1"))
    elif kind == "fill":
        connection.sendall(b"x" * value)
    elif kind == "end":
        connection.shutdown(socket.SHUT_WR)
    elif kind == "until":
        wanted = value.encode("latin-1")
        while wanted not in buffer:
            if not fill():
                raise EOFError(f"the end before {value!r}")
        take(buffer.index(wanted) + len(wanted))
    elif kind == "read":
        while len(buffer) < value:
            if not fill():
                raise EOFError(f"the end before {value} bytes")
        take(value)
    elif kind == "quiet":
        if buffer or select.select([connection], [], [], value)[0]:
            raise ValueError("it was not quiet")
    elif kind == "rest":
        while fill():
            pass
        take(len(buffer))
    else:
        raise ValueError(f"no such step: {kind}")


error = None
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for one in json.load(sys.stdin):
            (kind, value), = one.items()
            step(kind, value)
except Exception as problem:
    error = f"{type(problem).__name__}: {problem}; unread: {buffer[:300]!r}"
print(json.dumps({"read": read, "error": error}))
