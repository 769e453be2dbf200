# no control: some machines refuse it to everybody
import ctypes
import platform


def attempt():
    number = {"x86_64": 298, "aarch64": 241}[platform.machine()]
    room = ctypes.create_string_buffer(128)
    ctypes.memmove(room, (1).to_bytes(4, "little") + (128).to_bytes(4, "little"), 8)
    return "escaped" if ctypes.CDLL(None).syscall(number, room, 0, -1, -1, 0) >= 0 else "no"
