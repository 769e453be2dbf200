# no control: it takes root
import ctypes
import os


def attempt():
    descriptor = os.open("/proc/%d/ns/net" % PID, os.O_RDONLY)
    return "escaped" if ctypes.CDLL(None).setns(descriptor, 0) == 0 else "no"
