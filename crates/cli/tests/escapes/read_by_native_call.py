# control: yes
import ctypes


def attempt():
    libc = ctypes.CDLL(None)
    descriptor = libc.open((FOLDER + "/secret").encode(), 0)
    return "escaped" if descriptor >= 0 else "no"
