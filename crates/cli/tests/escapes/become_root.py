# no control: it takes root
import os


def attempt():
    os.setresuid(0, 0, 0)
    return "escaped"
