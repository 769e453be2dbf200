# control: yes
import socket


def attempt():
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    return "escaped"
