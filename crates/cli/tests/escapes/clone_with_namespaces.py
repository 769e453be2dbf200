# no control: some machines refuse it to everybody
import ctypes
import os
import platform


def attempt():
    number = {"x86_64": 56, "aarch64": 220}[platform.machine()]
    child = ctypes.CDLL(None).syscall(number, 0x10000000 | 17, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    return "escaped" if child > 0 else "no"
