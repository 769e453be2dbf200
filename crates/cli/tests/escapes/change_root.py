# no control: it takes root
import os


def attempt():
    os.mkdir("root")
    os.chroot("root")
    return "escaped"
