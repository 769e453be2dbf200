# no control: it takes root
import ctypes
import os


def attempt():
    os.mkdir("folder")
    libc = ctypes.CDLL(None)
    # Its own folder, which is mounted from outside.
    return "escaped" if libc.umount2(os.getcwd().encode(), 2) == 0 else "no"
