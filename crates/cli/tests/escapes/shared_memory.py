# no control: containers refuse it
import ctypes


def attempt():
    return "escaped" if ctypes.CDLL(None).shmget(0x6D79, 4096, 0o1666) >= 0 else "no"
