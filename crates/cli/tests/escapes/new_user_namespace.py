# no control: some machines refuse it to everybody
import ctypes


def attempt():
    return "escaped" if ctypes.CDLL(None).unshare(0x10000000) == 0 else "no"
