# no control: it takes root or luck
import ctypes


def attempt():
    return "escaped" if ctypes.CDLL(None).ptrace(16, PID, 0, 0) == 0 else "no"
