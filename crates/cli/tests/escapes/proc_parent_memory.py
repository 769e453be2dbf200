# no control: it takes root or luck
def attempt():
    open("/proc/%d/mem" % PID, "rb").close()
    return "escaped"
