# no control: it takes root
import ctypes
import os


def attempt():
    os.mkdir("proc")
    libc = ctypes.CDLL(None)
    return "escaped" if libc.mount(b"proc", b"proc", b"proc", 0, None) == 0 else "no"
