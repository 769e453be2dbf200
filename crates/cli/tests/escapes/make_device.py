# no control: it takes root
import os
import stat


def attempt():
    os.mknod("memory", 0o600 | stat.S_IFCHR, os.makedev(1, 1))
    return "escaped"
