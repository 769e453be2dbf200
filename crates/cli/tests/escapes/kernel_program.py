# no control: it takes root
import ctypes
import platform


def attempt():
    number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    room = ctypes.create_string_buffer(b"\x02\0\0\0\x04\0\0\0\x04\0\0\0\x01\0\0\0", 128)
    return "escaped" if ctypes.CDLL(None).syscall(number, 0, room, 128) >= 0 else "no"
