"""Runs a program on a terminal of its own. Once a text is on it, does what it is told: types keys, sends a signal, or
gives the terminal another size and, once it has been drawn in that and a few times more, types q: crossterm loses a key that
comes at the very moment of a new size, of which it is told beside it, once, and after which it returns. Prints how the program ended, whether the terminal is as it was, and
all that was written, in JSON.

usage: terminal.py COLUMNSxROWS TEXT keys:KEYS|signal:NAME|resize:COLUMNSxROWS COMMAND...
"""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

LIMIT_SECONDS = 60
# What top hides the cursor with, after each frame.
FRAME_END = b"\x1b[?25l"
FRAMES = 3


def resize(terminal, size):
    columns, rows = (int(part) for part in size.split("x"))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


size, wanted, deed, command = sys.argv[1], sys.argv[2].encode(), sys.argv[3], sys.argv[4:]
what, argument = deed.split(":", 1)
# Held open, so that the terminal's settings can be read when the program has ended.
ours, theirs = pty.openpty()
resize(ours, size)
before = termios.tcgetattr(theirs)
child = os.fork()
if child == 0:
    os.setsid()
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
    for number in range(3):
        os.dup2(theirs, number)
    os.environ["TERM"] = "xterm-256color"
    os.execvp(command[0], command)
written, done, ended, began = b"", False, None, time.monotonic()
resized_at = None
while ended is None:
    if time.monotonic() - began > LIMIT_SECONDS:
        os.kill(child, signal.SIGKILL)
    if select.select([ours], [], [], 0.05)[0]:
        written += os.read(ours, 65536)
    else:
        pid, status = os.waitpid(child, os.WNOHANG)
        ended = os.waitstatus_to_exitcode(status) if pid else None
    if not done and wanted in written:
        done = True
        if what == "signal":
            os.kill(child, getattr(signal, "SIG" + argument))
        elif what == "resize":
            resized_at = len(written)
            resize(ours, argument)
        else:
            os.write(ours, argument.encode())
    if resized_at is not None:
        last_row = b"\x1b[" + argument.split("x")[1].encode() + b";1H"
        since = written[resized_at:].partition(last_row)[2]
        if since.count(FRAME_END) >= FRAMES:
            resized_at = None
            os.write(ours, b"q")
restored = termios.tcgetattr(theirs) == before
print(json.dumps({"code": ended, "restored": restored, "written": written.decode(errors="replace")}))
