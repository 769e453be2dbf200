# control: yes
import ctypes


def attempt():
    return "escaped" if ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0 else "no"
