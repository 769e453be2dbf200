# no control: it takes root
import ctypes


def attempt():
    libc = ctypes.CDLL(None, use_errno=True)
    return "escaped" if libc.mount(None, b"/usr/lib", None, 32 | 4096, None) == 0 else "no"
