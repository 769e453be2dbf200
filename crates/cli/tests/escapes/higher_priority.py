# no control: it takes root
import os


def attempt():
    os.nice(-5)
    return "escaped"
