# no control: some machines refuse it to everybody
import socket


def attempt():
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).bind((0, 0))
    return "escaped"
