# no control: it takes root
import os


def attempt():
    open(os.__file__, "a").close()
    return "escaped"
