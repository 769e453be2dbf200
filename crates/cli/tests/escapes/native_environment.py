# control: yes
import ctypes


def attempt():
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    return "escaped" if getenv(b"MYNAH_SECRET") else "no"
