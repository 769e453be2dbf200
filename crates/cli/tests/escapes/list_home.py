# no control: not everybody may list it
import os


def attempt():
    return os.listdir("/root") is not None and "escaped"
