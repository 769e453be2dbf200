# control: yes
import socket


def attempt():
    socket.create_connection(("127.0.0.1", PORT), timeout=5).close()
    return "escaped"
