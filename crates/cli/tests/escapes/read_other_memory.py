# control: yes
import ctypes
import os


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def attempt():
    source, target = ctypes.create_string_buffer(b"here"), ctypes.create_string_buffer(4)
    local, remote = (Vector(ctypes.addressof(buffer), 4) for buffer in (target, source))
    got = ctypes.CDLL(None).process_vm_readv(os.getpid(), ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    return "escaped" if got == 4 else "no"
