"""Measures how long a server that speaks first takes to do so: prints the milliseconds from before the
connection to its first byte, one line per attempt, in JSON.

usage: first_byte.py HOST PORT ATTEMPTS
"""
import json
import socket
import sys
import time

host, port, attempts = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4]
measured = []
for _ in range(attempts):
    began = time.monotonic()
    with socket.create_connection(address[:2], timeout=10) as connection:
        first = connection.recv(1)
        measured.append((time.monotonic() - began) * 1000)
        assert first == b"2", first
print(json.dumps(measured))
