"""A TCP server: every line is answered at once, and the end of the client's bytes with their number.

usage: echo_tcp.py PORT [greet | farewell]

With `greet` the server speaks first; with `farewell` it does that and ends its direction, and then reads.
"""
import socket
import socketserver
import sys


class Echo(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        if "greet" in sys.argv:
            self.wfile.write(b"220 good day\n")
        if "farewell" in sys.argv:
            self.wfile.write(b"221 good night\n")
            self.connection.shutdown(socket.SHUT_WR)
            return self.rfile.read()
        received = 0
        for line in self.rfile:
            received += len(line)
            # An echo of everything would need a client that reads while it writes.
            if len(line) < 200:
                self.wfile.write(b"answered-" + line)
        self.wfile.write(b"ended after %d bytes\n" % received)


class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256


Server(("::", int(sys.argv[1])), Echo).serve_forever()
