# control: yes
def attempt():
    return open("/proc/%d/cmdline" % PID).read() and "escaped"
