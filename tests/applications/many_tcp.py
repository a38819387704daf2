"""Opens one connection after the other, says on each what no other says, ends its direction, and reads to the end.
Prints how many were answered with exactly that.

usage: many_tcp.py HOST PORT NUMBER
"""
import socket
import sys

host, port, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4]
answered = 0
for turn in range(number):
    word = f"word-{turn}-of-{number}"
    with socket.create_connection(address[:2], timeout=10) as connection:
        connection.sendall(word.encode() + b"\n")
        connection.shutdown(socket.SHUT_WR)
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
    said = b"".join(pieces).decode()
    assert said == f"answered-{word}\nended after {len(word) + 1} bytes\n", said
    answered += 1
print(answered)
