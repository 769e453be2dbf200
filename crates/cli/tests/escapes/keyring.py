# no control: containers refuse it
import ctypes
import platform


def attempt():
    number = {"x86_64": 248, "aarch64": 217}[platform.machine()]
    added = ctypes.CDLL(None).syscall(number, b"user", b"mynah", b"x", 1, -3)
    return "escaped" if added >= 0 else "no"
