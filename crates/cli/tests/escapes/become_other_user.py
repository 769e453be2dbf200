# no control: it takes root
import os


def attempt():
    os.setuid(1)
    return "escaped"
