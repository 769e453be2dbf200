# no control: some machines refuse it to everybody
import ctypes
import platform


def attempt():
    number = {"x86_64": 323, "aarch64": 282}[platform.machine()]
    return "escaped" if ctypes.CDLL(None).syscall(number, 1) >= 0 else "no"
