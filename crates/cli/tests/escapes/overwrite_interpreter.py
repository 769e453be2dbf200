# no control: it takes root
import sys


def attempt():
    open(sys.executable, "r+b").close()
    return "escaped"
