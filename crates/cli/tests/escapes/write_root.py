# no control: it takes root
import os


def attempt():
    open("/own", "w").close()
    os.remove("/own")
    return "escaped"
