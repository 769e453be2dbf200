# control: yes
import os
import socket


def attempt():
    server = socket.socket(socket.AF_UNIX)
    server.bind("\0mynah-%d" % os.getpid())
    return "escaped"
