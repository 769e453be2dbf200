# no control: some machines refuse it to everybody
import ctypes


def attempt():
    return "escaped" if ctypes.CDLL(None).syscall(425, 1, ctypes.create_string_buffer(120)) >= 0 else "no"
