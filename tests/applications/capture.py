"""Writes every frame that any device of this network namespace sends or takes to a file, until it is
killed. For worlds of ordinary users, whose root cannot become tcpdump's user.

usage: capture.py FILE
"""
import socket
import sys

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33

with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as frames:
    try:
        frames.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 * 1024 * 1024)
    except PermissionError:
        frames.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024 * 1024)
    with open(sys.argv[1], "wb", buffering=0) as file:
        # As long as the header of a pcap file, which says that it has begun.
        file.write(b"captured by capture.py:\n")
        while True:
            file.write(frames.recv(256 * 1024))
