# no control: it takes a network
import socket


def attempt():
    return socket.getaddrinfo("crates.io", 443) and "escaped"
